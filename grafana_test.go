package realtime

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is as much of docs/grafana.json as the tests look at.
type dashboard struct {
	Templating struct {
		List []struct {
			Name       string
			Definition string
		}
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		Targets []struct{ Expr, LegendFormat string }
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readText(t, "docs/grafana.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	metricName = regexp.MustCompile(`\brealtime_[a-z_]+`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// find returns the metric that a series belongs to: a histogram has three kinds.
func find(infos []metricInfo, series string) (metricInfo, bool) {
	i := slices.IndexFunc(infos, func(m metricInfo) bool {
		if m.kind != "histogram" {
			return series == m.name
		}
		return series == m.name+"_bucket" || series == m.name+"_sum" || series == m.name+"_count"
	})
	if i < 0 {
		return metricInfo{}, false
	}
	return infos[i], true
}

func TestDashboardShowsTheMetricsThatThereAre(t *testing.T) {
	infos := registeredMetrics(t)
	shown := map[string]bool{}
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			names := metricName.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("panel %q has a target without a metric: %s", p.Title, target.Expr)
			}
			for _, name := range names {
				m, ok := find(infos, name)
				if !ok {
					t.Errorf("panel %q asks for %s, which is not registered", p.Title, name)
				}
				shown[m.name] = true
			}
		}
	}
	for _, m := range infos {
		if !shown[m.name] {
			t.Errorf("no panel shows %s", m.name)
		}
	}
}

func TestDashboardGroupsByLabelsThatThereAre(t *testing.T) {
	infos := registeredMetrics(t)
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			m, _ := find(infos, metricName.FindString(target.Expr))
			known := append(strings.Split(m.labels, ", "), "instance")
			if strings.Contains(target.Expr, "_bucket{") {
				known = append(known, "le")
			}
			for _, group := range grouping.FindAllStringSubmatch(target.Expr, -1) {
				for label := range strings.SplitSeq(group[1], ", ") {
					if !slices.Contains(known, label) {
						t.Errorf("panel %q groups %s by %q, want one of %q", p.Title, m.name, label, known)
					}
					if label != "le" && !strings.Contains(target.LegendFormat, "{{"+label+"}}") {
						t.Errorf("panel %q does not show the label %q", p.Title, label)
					}
				}
			}
		}
	}
}

func TestDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q: want an id of its own, a title and a target", p.ID, p.Title)
		}
		ids[p.ID] = true
	}
	if len(ids) < 20 {
		t.Errorf("got %d panels, want 20 and more", len(ids))
	}
	for _, v := range d.Templating.List {
		if name := metricName.FindString(v.Definition); name != "" {
			if _, ok := find(registeredMetrics(t), name); !ok {
				t.Errorf("variable %q asks for %s, which is not registered", v.Name, name)
			}
		}
	}
}
