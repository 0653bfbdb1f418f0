package main

var joinsWork = &work{
	name: "joins", title: "Leave and join on 100 open connections, one request outstanding on each",
	rows: []row{
		{name: "joins-cpu", unit: "µs", text: "server CPU per join and leave"},
		{name: "joins-p50", unit: "µs", text: "one of them, answered, p50"},
	},
	can: func(p *peer) bool { return p.speak.Join != "" }, lack: "topics of their own, and messages to join and leave them",
	run: func(x *pair, s scale) (figures, error) {
		each := max(int(s.span.Seconds()*200), 10) * 2
		cpu, c, err := asked(x, loadOrder{Op: "joins", Window: 1, Stamps: true}, each)
		if err != nil {
			return nil, err
		}
		return figures{"joins-cpu": 2 * cpu / float64(c.Total) / 1e3, "joins-p50": float64(c.P50) / 1e3}, nil
	},
}
