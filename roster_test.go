package realtime

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// view is what a client makes of states and diffs, as phoenix.js does: refs by key
// (phoenix.md section 4.4).
type view map[string][]string

type shownPeople map[string]struct {
	Metas []struct {
		Ref string `json:"phx_ref"`
	}
}

func (p shownPeople) refs(key string) (refs []string) {
	for _, m := range p[key].Metas {
		refs = append(refs, m.Ref)
	}
	return refs
}

func without(refs, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(refs), func(ref string) bool { return slices.Contains(gone, ref) })
}

func (v view) merge(t *testing.T, diff []byte) {
	t.Helper()
	var d struct{ Joins, Leaves shownPeople }
	if err := json.Unmarshal(diff, &d); err != nil || d.Joins == nil || d.Leaves == nil {
		t.Fatalf("%s is no diff: %v", diff, err)
	}
	for key := range d.Joins {
		v[key] = append(without(v[key], d.Joins.refs(key)), d.Joins.refs(key)...)
	}
	for key := range d.Leaves {
		if v[key] = without(v[key], d.Leaves.refs(key)); len(v[key]) == 0 {
			delete(v, key)
		}
	}
}

func viewOf(t *testing.T, state []byte) view {
	t.Helper()
	var p shownPeople
	if err := json.Unmarshal(state, &p); err != nil || p == nil {
		t.Fatalf("%s is no state: %v", state, err)
	}
	v := view{}
	for key := range p {
		v[key] = p.refs(key)
	}
	return v
}

// sorted is a view whose metas are in no order.
func (v view) sorted() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, key+":"+strings.Join(slices.Sorted(slices.Values(v[key])), ","))
	}
	return strings.Join(parts, " ")
}

// TestEveryViewOfARosterIsRightAfterEachTurn has tabs track, retrack and untrack at
// random, newcomers look at the state in between, and holds what each makes of what
// it was told against a plain list.
func TestEveryViewOfARosterIsRightAfterEachTurn(t *testing.T) {
	for seed := range uint64(30) {
		rosterRun(t, rand.New(rand.NewPCG(seed, 1)))
	}
}

type newcomer struct {
	view view
	seen uint64
}

func rosterRun(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	var r roster
	var tabs [8]attendee
	model := map[*entry]string{} // entry → key
	known := view{}              // of those who know every turn
	announced := map[string]bool{}
	var fresh []newcomer
	refs := 0
	keys := []string{"ada", "bob", "__proto__", `"quo\ted"`}
	for step := range 200 {
		switch op := rnd.IntN(10); {
		case op < 7:
			tab := &tabs[rnd.IntN(len(tabs))]
			key := keys[rnd.IntN(len(keys))]
			d, err := tab.change(tracking(rnd.IntN(3)), key, func(old *entry) *entry {
				refs++
				return newEntry(key, fmt.Sprint("r", refs), r.prevOf(old), []byte(`"a":1`))
			})
			if err != nil {
				continue
			}
			r.apply(d)
			for _, e := range d.leaves {
				delete(model, e)
			}
			for _, e := range d.joins {
				model[e] = key
				if e.prev != "" && !announced[e.prev] {
					t.Fatalf("step %d: phx_ref_prev %s was never told to anybody", step, e.prev)
				}
			}
		case op == 7:
			r.apply(delta{leaves: tabs[0].entries})
			for _, e := range tabs[0].entries {
				delete(model, e)
			}
			tabs[0].entries = nil
		case op == 8:
			n := newcomer{viewOf(t, r.state()), r.version}
			for _, refs := range n.view {
				for _, ref := range refs {
					announced[ref] = true
				}
			}
			fresh = append(fresh, n)
		default:
			known, fresh = rosterTurn(t, &r, known, fresh, announced), nil
		}
		want := view{}
		for e, key := range model {
			want[key] = append(want[key], e.ref)
		}
		if got := viewOf(t, r.state0()); got.sorted() != want.sorted() {
			t.Fatalf("step %d: the state is %s, want %s", step, got.sorted(), want.sorted())
		}
	}
}

// state0 is the state as a list of its own, which shows nothing to anybody.
func (r *roster) state0() []byte {
	b := []byte{'{'}
	for i, p := range r.order {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMetas(b, p.key, p.metas)
	}
	return append(b, '}')
}

func rosterTurn(t *testing.T, r *roster, known view, fresh []newcomer, announced map[string]bool) view {
	t.Helper()
	told := r.told
	changes := r.turn()
	news := changes.since(told)
	want := viewOf(t, r.state0()).sorted()
	for _, e := range news.joins {
		announced[e.ref] = true
	}
	for _, e := range news.leaves {
		if !slices.Contains(known[e.key], e.ref) {
			t.Fatalf("%s leaves, whom nobody knows", e.ref)
		}
	}
	known.merge(t, appendDiff(nil, news))
	if got := known.sorted(); got != want {
		t.Fatalf("those who heard every diff know %s, want %s", got, want)
	}
	for _, n := range fresh {
		rough := maps.Clone(n.view)
		rough.merge(t, appendDiff(nil, changes)) // repeats what was shown
		n.view.merge(t, appendDiff(nil, changes.since(n.seen)))
		if got := n.view.sorted(); got != want || rough.sorted() != want {
			t.Fatalf("a newcomer knows %s, or %s, want %s", got, rough.sorted(), want)
		}
	}
	return known
}

// tracker drives one attendee of a roster by hand.
type tracker struct {
	t *testing.T
	r *roster
	attendee
	refs *int
}

func (a *tracker) do(what tracking, key string) *entry {
	a.t.Helper()
	d, err := a.change(what, key, func(old *entry) *entry {
		*a.refs++
		return newEntry(key, fmt.Sprint("r", *a.refs), a.r.prevOf(old), nil)
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.r.apply(d)
	if len(d.joins) > 0 {
		return d.joins[0]
	}
	return nil
}

func (a *tracker) turn() (diff, lost string) {
	told := a.r.told
	d := a.r.turn()
	gone := slices.DeleteFunc(slices.Clone(d.leaves), func(e *entry) bool { return e.at <= told })
	return string(appendDiff(nil, d.since(told))), string(appendEntries(nil, gone))
}

// What happens within one tick, and what of it is told: to those who knew the state
// before, and to newcomers who were shown one in between.
func TestChangesWithinATickCollapse(t *testing.T) {
	for _, tt := range []struct {
		name       string
		before     string // each letter a change: t r u, s shows the state
		within     string
		diff, lost string
	}{
		{"nothing", "t", "", `{"joins":{},"leaves":{}}`, `{}`},
		{"joined and left", "", "tu", `{"joins":{},"leaves":{}}`, `{}`},
		{"joined, shown and left", "", "tsu", `{"joins":{},"leaves":{}}`, `{"k":{"metas":[{"phx_ref":"r1"}]}}`},
		{"joined and updated", "", "tr", `{"joins":{"k":{"metas":[{"phx_ref":"r2"}]}},"leaves":{}}`, `{}`},
		{"joined, shown and updated", "", "tsr", `{"joins":{"k":{"metas":[{"phx_ref":"r2","phx_ref_prev":"r1"}]}},"leaves":{}}`, `{"k":{"metas":[{"phx_ref":"r1"}]}}`},
		{"updated", "t", "r", `{"joins":{"k":{"metas":[{"phx_ref":"r2","phx_ref_prev":"r1"}]}},"leaves":{"k":{"metas":[{"phx_ref":"r1"}]}}}`, `{}`},
		{"updated twice", "t", "rr", `{"joins":{"k":{"metas":[{"phx_ref":"r3","phx_ref_prev":"r1"}]}},"leaves":{"k":{"metas":[{"phx_ref":"r1"}]}}}`, `{}`},
		{"updated, shown and updated", "t", "rsr", `{"joins":{"k":{"metas":[{"phx_ref":"r3","phx_ref_prev":"r1"}]}},"leaves":{"k":{"metas":[{"phx_ref":"r1"}]}}}`, `{"k":{"metas":[{"phx_ref":"r2","phx_ref_prev":"r1"}]}}`},
		{"updated and left", "t", "ru", `{"joins":{},"leaves":{"k":{"metas":[{"phx_ref":"r1"}]}}}`, `{}`},
		{"left and came back", "t", "ut", `{"joins":{"k":{"metas":[{"phx_ref":"r2"}]}},"leaves":{"k":{"metas":[{"phx_ref":"r1"}]}}}`, `{}`},
		{"flapped", "", strings.Repeat("tu", 100) + "t", `{"joins":{"k":{"metas":[{"phx_ref":"r101"}]}},"leaves":{}}`, `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refs := 0
			a := &tracker{t: t, r: &roster{}, refs: &refs}
			run := func(script string) {
				for _, c := range script {
					switch c {
					case 's':
						a.r.state()
					default:
						a.do(map[rune]tracking{'t': trackNew, 'r': trackAgain, 'u': trackNot}[c], "k")
					}
					if n := len(a.r.joins); n > 100 {
						t.Fatalf("%d changes wait for the tick, want few", n)
					}
				}
			}
			run(tt.before)
			a.turn()
			run(tt.within)
			if diff, lost := a.turn(); diff != tt.diff || lost != tt.lost {
				t.Errorf("got %s and %s for newcomers, want %s and %s", diff, lost, tt.diff, tt.lost)
			}
		})
	}
}

// A node that is gone is a delta of all its entries, one that is not here twice.
func TestLeavesOfStrangersChangeNothing(t *testing.T) {
	refs := 0
	r := &roster{}
	a, b := &tracker{t: t, r: r, refs: &refs}, &tracker{t: t, r: r, refs: &refs}
	a.do(trackNew, "k")
	b.do(trackNew, "k")
	gone := delta{leaves: []*entry{b.entries[0], newEntry("k", "stranger", "", nil), newEntry("nobody", "x", "", nil)}}
	for range 2 {
		r.apply(gone)
	}
	if got, want := string(r.state()), `{"k":{"metas":[{"phx_ref":"r1"}]}}`; got != want {
		t.Errorf("the state is %s, want %s", got, want)
	}
}

func TestStateOfACrowdIsWrittenOnce(t *testing.T) {
	r := &roster{}
	refs := 0
	for i := range 100 {
		a := &tracker{t: t, r: r, refs: &refs}
		a.do(trackNew, fmt.Sprint("k", i))
		if got, want := string(r.state()), string(r.state0()); got != want {
			t.Fatalf("the state is %s, want %s", got, want)
		}
	}
	a := &tracker{t: t, r: r, refs: &refs}
	if n := testing.AllocsPerRun(100, func() { r.state() }); n != 0 {
		t.Errorf("a state that is written already allocates %v times, want 0", n)
	}
	a.do(trackNew, "k50") // a second tab rewrites it
	if got, want := string(r.state()), string(r.state0()); got != want {
		t.Errorf("the state is %s, want %s", got, want)
	}
}

func TestMetasAreObjectsWithoutTheServersFields(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{}`, ``},
		{` { "a" : [1, 2] , "phx_ref":"x","b":{"phx_ref":1}, "phx_ref_prev":null } `, `"a" : [1, 2],"b":{"phx_ref":1}`},
		{`{"phx_\u0072ef":1,"Phx_ref":2}`, `"Phx_ref":2`},
		{`{"phx_ref":"x"}`, ``},
		{`[]`, "error"}, {`null`, "error"}, {`"{}"`, "error"}, {`1`, "error"}, {`{}{}`, "error"},
		{`{"a":"` + strings.Repeat("x", maxMetaBytes-8) + `"}`, `"a":"` + strings.Repeat("x", maxMetaBytes-8) + `"`},
		{`{"a":"` + strings.Repeat("x", maxMetaBytes-7) + `"}`, "error"},
	} {
		fields, err := metaFields(json.RawMessage(tt.text))
		if (err != nil) != (tt.want == "error") || err == nil && string(fields) != tt.want {
			t.Errorf("metaFields(%.40s) = %.40q, %v; want %.40q", tt.text, fields, err, tt.want)
		}
	}
}

func FuzzMeta(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"phx_ref":"x","a":{"b":[]}}`, `{"phx_ref_prev":1,"phx_ref":2}`, `[]`, `{"a":1}x`, "{\"\x00\":1}", `{"phx_\u0072ef":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]any
		bad := !isJSON(text) || json.Unmarshal(text, &want) != nil || want == nil || len(text) > maxMetaBytes
		fields, err := metaFields(text)
		if bad && isJSON(text) && err == nil {
			t.Fatalf("metaFields(%q) accepts what is no object", text)
		}
		if err != nil || bad {
			if err != nil && !bad {
				t.Fatalf("metaFields(%q): %v", text, err)
			}
			return
		}
		var got map[string]any
		if err := json.Unmarshal(newEntry("k", "REF", "PREV", fields).text, &got); err != nil {
			t.Fatalf("the meta of %q: %v", text, err)
		}
		want["phx_ref"], want["phx_ref_prev"] = "REF", "PREV"
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Fatalf("the meta of %q is %s, want %s", text, a, b)
		}
	})
}

func TestRefsAreUniqueAndLikePhoenix(t *testing.T) {
	a, b := newRefs(), newRefs()
	seen := map[string]bool{}
	for range 10_000 {
		for _, ref := range []string{a.next(), b.next()} {
			if seen[ref] || len(ref) != 16 || strings.ContainsAny(ref, "+/=") {
				t.Fatalf("ref %q: want 16 characters that are safe in URLs, once", ref)
			}
			seen[ref] = true
		}
	}
}
