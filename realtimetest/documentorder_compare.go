package realtimetest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-58bc6ac1/realtime"
)

// CompareDocumentOrders takes the same steps through two orders, at the same times,
// and wants the same of both: every outcome, every news at each of two nodes, how the
// document stands in the end, and every message byte for byte. There is a history for
// each seed, of good steps and bad ones. a and b are called twice: they return another
// node of their backend.
func CompareDocumentOrders(t *testing.T, seeds uint64, a, b func() realtime.DocumentOrder) {
	pair := comparison{T: t, orders: [2][2]realtime.DocumentOrder{{a(), a()}, {b(), b()}}}
	for seed := range seeds {
		if pair.run(seed); t.Failed() {
			return
		}
	}
}

// comparison is two orders with two nodes each.
type comparison struct {
	*testing.T
	orders [2][2]realtime.DocumentOrder
}

func (c *comparison) run(seed uint64) {
	id := newDocument()
	var ears [2][2]*ear
	for i, order := range c.orders {
		for node, o := range order {
			ears[i][node] = (&orderTest{T: c.T, id: id}).attend(o)
			defer ears[i][node].stop()
		}
	}
	h := newStepHistory(seed)
	var steps []string
	for range 30 + h.IntN(100) {
		step, node := h.next()
		steps = append(steps, describeStep(step))
		var outs [2]*realtime.DocumentOutcome
		for i := range outs {
			copied := *step
			out, err := c.orders[i][node].Take(c.Context(), id, &copied)
			if err != nil {
				c.Fatalf("seed %d: order %d: %v, after\n%s", seed, i, err, strings.Join(steps, "\n"))
			}
			outs[i] = out
		}
		if one, other := describeOutcome(outs[0]), describeOutcome(outs[1]); one != other {
			c.Fatalf("seed %d: outcomes\n%s\nand\n%s\nof the last of\n%s", seed, one, other, strings.Join(steps, "\n"))
		}
		h.took(step, outs[0])
	}
	for node := range ears[0] {
		want := ears[0][node].all()
		got := ears[1][node].want("same news", func(n []*realtime.DocumentNews) bool { return len(n) >= len(want) })
		for i := range want {
			if line(got[i]) != line(want[i]) || got[i].Taken != want[i].Taken {
				c.Fatalf("seed %d: news %d at node %d is\n%s, taken %v\nand\n%s, taken %v\nafter\n%s", seed, i, node,
					line(want[i]), want[i].Taken, line(got[i]), got[i].Taken, strings.Join(steps, "\n"))
			}
		}
		if len(got) > len(want) {
			c.Fatalf("seed %d: %d and %d news at node %d", seed, len(want), len(got), node)
		}
	}
	one, other := &orderTest{T: c.T, id: id}, &orderTest{T: c.T, id: id}
	one.wantMessages(other.readAll(c.orders[1][0]), one.readAll(c.orders[0][0]))
	stands := [2]*realtime.DocumentStanding{one.attend(c.orders[0][1]).standing, other.attend(c.orders[1][1]).standing}
	if d, e := describeStanding(stands[0]), describeStanding(stands[1]); d != e {
		c.Fatalf("seed %d: the document stands at\n%s\nand\n%s\nafter\n%s", seed, d, e, strings.Join(steps, "\n"))
	}
}

func describeStep(s *realtime.DocumentStep) string {
	var b strings.Builder
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() && !slices.Contains([]string{"Ops", "Join", "Leave", "Came", "Went", "Answer"}, v.Type().Field(i).Name) {
			fmt.Fprintf(&b, "%s:%v ", v.Type().Field(i).Name, f.Interface())
		}
	}
	for _, op := range s.Ops {
		fmt.Fprintf(&b, "[%s %d, RSN %d, null %v, flaw %q]", op.Type, op.CSN, op.RSN, op.Null, op.Flaw)
	}
	return b.String()
}

func describeOutcome(o *realtime.DocumentOutcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SN %d, MSN %d, absorbed %v, counts %v, refusal %+v at %d", o.SequenceNumber, o.MinimumSequenceNumber, o.Absorbed,
		o.Counts, o.Refusal, o.Refused)
	for _, m := range o.Messages {
		text := m.JSON
		m.JSON = nil
		fmt.Fprintf(&b, "\n%+v %s", m, text)
	}
	if o.Standing != nil {
		b.WriteString("\n" + describeStanding(o.Standing))
	}
	return b.String()
}

// describeStanding leaves out the epoch, which is another one in each order.
func describeStanding(s *realtime.DocumentStanding) string {
	text := fmt.Sprintf("SN %d, MSN %d, now %d, open %q, summaries %+v", s.SequenceNumber, s.MinimumSequenceNumber, s.MSN, s.Open, s.Summaries)
	for _, c := range s.Clients {
		text += fmt.Sprintf("\n%s at %s, %s: %s", c.ID, c.Node, c.Mode, c.Object)
	}
	return text
}

// stepHistory makes the steps of one history. What it asks for depends on what the
// steps before have done, so that most of them are good.
type stepHistory struct {
	*rand.Rand
	now     time.Time
	sn, msn int64
	clients []*stepClient               // all that there ever were
	asked   []realtime.SequencedMessage // to summarize
}

type stepClient struct {
	id   string
	csn  int64
	here bool
}

func newStepHistory(seed uint64) *stepHistory {
	return &stepHistory{Rand: rand.New(rand.NewPCG(seed, 6)), now: time.UnixMilli(1_700_000_000_000)}
}

var stepNodes = []string{"n1", "n2", "n3"}

// next returns a step, and at which of two nodes it is taken.
func (h *stepHistory) next() (step *realtime.DocumentStep, node int) {
	switch n := h.IntN(100); {
	case n < 14 || len(h.clients) == 0:
		step = h.join()
	case n < 20:
		step = clientStep(realtime.StepLeave, h.client().id)
	case n < 65:
		step = h.submit()
	case n < 72:
		step = clientStep(realtime.StepRefer, h.client().id)
		step.RSN = h.rsn()
	case n < 78:
		step = noopStep()
	case n < 84:
		step = idleStep([]time.Duration{0, time.Second, 30 * time.Second}[h.IntN(3)], []time.Duration{0, time.Second, 10 * time.Second}[h.IntN(3)])
	case n < 90:
		step = h.answer()
	case n < 93:
		step = buryStep(stepNodes[h.IntN(3)], "nowhere")
	default:
		step = signalStep(h.client().id, fmt.Sprintf("signal \x00\xff %d", n))
	}
	if h.IntN(2) == 0 {
		h.now = h.now.Add([]time.Duration{time.Millisecond, 300 * time.Millisecond, time.Second, 31 * time.Second}[h.IntN(4)])
	}
	step.Now, step.Node = h.now, stepNodes[h.IntN(3)]
	return step, h.IntN(2)
}

func (h *stepHistory) join() *realtime.DocumentStep {
	id := fmt.Sprintf("%s%d", []string{"A", "S"}[h.IntN(2)], len(h.clients))
	h.clients = append(h.clients, &stepClient{id: id})
	step := joinStep(id, h.IntN(4) > 0)
	if h.IntN(4) == 0 {
		step.Came, step.Went = nil, nil
	}
	return step
}

// client is one that is there, for the most part.
func (h *stepHistory) client() *stepClient {
	var here []*stepClient
	for _, c := range h.clients {
		if c.here {
			here = append(here, c)
		}
	}
	if len(here) == 0 || h.IntN(15) == 0 {
		return h.clients[h.IntN(len(h.clients))]
	}
	return here[h.IntN(len(here))]
}

// rsn is one that a client may refer to, for the most part.
func (h *stepHistory) rsn() int64 {
	switch h.IntN(12) {
	case 0:
		return max(-1, h.msn-1-h.Int64N(3))
	case 1:
		return h.sn + 1 + h.Int64N(3)
	case 2:
		return -1
	}
	return h.msn + h.Int64N(h.sn-h.msn+1)
}

func (h *stepHistory) submit() *realtime.DocumentStep {
	c := h.client()
	step := opsStep(c.id)
	if h.IntN(6) == 0 {
		step.MaxUnsummarized = 20
	}
	csn := c.csn
	for range h.IntN(4) {
		switch csn++; h.IntN(16) {
		case 0:
			csn++
		case 1:
			csn = max(1, csn-2)
		}
		op := opOf(csn, h.rsn())
		switch h.IntN(12) {
		case 0, 1:
			op = noopOf(csn, op.RSN, h.IntN(2) == 0)
		case 2:
			op = summarizeOf(csn, op.RSN)
			if h.IntN(4) == 0 {
				op.Flaw = "a flaw"
			}
		case 3:
			if h.IntN(3) == 0 {
				op.Type = []string{"join", "leave", "noClient", "control", "summaryAck", "summaryNack"}[h.IntN(6)]
			}
		}
		step.Ops = append(step.Ops, op)
	}
	return step
}

func (h *stepHistory) answer() *realtime.DocumentStep {
	if len(h.asked) == 0 {
		return ackStep(int64(h.IntN(20)), 0, "of nothing")
	}
	m := h.asked[h.IntN(len(h.asked))]
	if h.IntN(2) == 0 {
		return nackStep(m.SequenceNumber)
	}
	return ackStep(m.SequenceNumber, m.ReferenceSequenceNumber, fmt.Sprintf("handle %d", m.SequenceNumber))
}

// took tells the history what came of a step.
func (h *stepHistory) took(step *realtime.DocumentStep, out *realtime.DocumentOutcome) {
	h.sn, h.msn = out.SequenceNumber, out.MinimumSequenceNumber
	for _, c := range h.clients {
		if c.id == step.Client && step.Kind == realtime.StepJoin {
			c.here = true
		}
		if c.id == step.Client && step.Kind == realtime.StepOps {
			c.submitted(step, out)
		}
	}
	for _, m := range out.Messages {
		if m.Type == "summarize" {
			h.asked = append(h.asked, m)
		}
	}
	if step.Kind == realtime.StepLeave || step.Kind == realtime.StepBury && h.IntN(2) == 0 {
		for _, c := range h.clients {
			c.here = c.here && c.id != step.Client
		}
	}
}

// submitted counts the ops of which the order took the number.
func (c *stepClient) submitted(step *realtime.DocumentStep, out *realtime.DocumentOutcome) {
	for i, op := range step.Ops {
		if out.Refusal != nil && i >= out.Refused {
			break
		}
		c.csn = max(c.csn, op.CSN)
	}
	if out.Refusal != nil && (out.Refusal.Reason == "rsn_below_msn" || out.Refusal.Reason == "nonexistent_client") {
		c.here = false
	}
}
