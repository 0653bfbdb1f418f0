package realtime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// What [Client.Track] and its like return. ErrNoPresence is that of a topic that was
// declared without [Presence].
var (
	ErrTracked    = errors.New("realtime: the key is tracked already")
	ErrNotTracked = errors.New("realtime: the key is not tracked")
	ErrNoPresence = errors.New("realtime: the topic has no presence")
)

// Bounds of presence. Whatever is tracked goes to every member, once and again to
// everyone who joins: it is for what a list of names shows, not for state.
const (
	maxMetas     = 16      // of one client in one topic: several devices or roles, not a table
	maxMetaBytes = 4 << 10 // of one meta as JSON
	maxKeyBytes  = 255     // as the name of a topic
)

// tracking is a change of what a client has tracked.
type tracking uint8

const (
	trackNew   tracking = iota // Track
	trackAgain                 // Retrack
	trackNot                   // Untrack
)

// entry is one meta as it is announced: it never changes, an update is another
// entry.
type entry struct {
	key  string
	ref  string // phx_ref, unique on all nodes
	prev string // phx_ref_prev, "" for none
	text json.RawMessage

	at   uint64 // the roster's version that it came with
	left uint64 // the one that it left with, 0 while it is there
	told bool   // to other nodes
}

// newEntry makes an entry of a meta's fields, which [metaFields] gave.
func newEntry(key, ref, prev string, fields []byte) *entry {
	text := make([]byte, 0, len(fields)+len(ref)+len(prev)+36)
	text = append(append(text, '{'), fields...)
	if len(fields) > 0 {
		text = append(text, ',')
	}
	text = appendQuoted(append(text, `"phx_ref":`...), ref)
	if prev != "" {
		text = appendQuoted(append(text, `,"phx_ref_prev":`...), prev)
	}
	return &entry{key: key, ref: ref, prev: prev, text: append(text, '}')}
}

// metaFields returns the fields of a meta, as they stand between its braces, without
// those that presence sets itself (phoenix.md section 4.1).
func metaFields(text json.RawMessage) ([]byte, error) {
	if len(text) > maxMetaBytes {
		return nil, invalidMeta(fmt.Sprintf("A presence meta has at most %d bytes", maxMetaBytes))
	}
	fields := make([]byte, 0, len(text))
	s := scanObject(text, maxHostNesting)
	for s.next() {
		if key := string(s.key); key == "phx_ref" || key == "phx_ref_prev" {
			continue
		}
		if len(fields) > 0 {
			fields = append(fields, ',')
		}
		fields = append(fields, s.raw()...)
	}
	if !s.complete() {
		return nil, invalidMeta("A presence meta must be an object")
	}
	return fields, nil
}

func checkPresenceKey(key string) error {
	if len(key) == 0 || len(key) > maxKeyBytes || !utf8.ValidString(key) {
		return invalidMeta(fmt.Sprintf("A presence key has 1 to %d bytes of UTF-8", maxKeyBytes))
	}
	return nil
}

// invalidMeta is for the client, too: mostly it is the client's own words that are
// tracked.
func invalidMeta(text string) error {
	return &Error{Code: CodeInvalidData, Text: text, Retry: RetryNever}
}

// attendee is what one membership has to do with the presence of its topic.
type attendee struct {
	entries []*entry // what it has tracked, at most one for each key
	joinRef string   // what pushes to it bear; "" in protocols without
	seen    uint64   // the version that it was shown when it joined
}

// change makes a change and returns what that is to the roster. fresh makes the new
// entry in place of old, which is nil for none.
func (a *attendee) change(what tracking, key string, fresh func(old *entry) *entry) (d delta, err error) {
	i := slices.IndexFunc(a.entries, func(e *entry) bool { return e.key == key })
	switch {
	case what == trackNew && i >= 0:
		return d, fmt.Errorf("%w: %q", ErrTracked, key)
	case what == trackNew && len(a.entries) >= maxMetas:
		return d, invalidMeta(fmt.Sprintf("A connection tracks at most %d presences in one topic", maxMetas))
	case what == trackAgain && i < 0:
		return d, fmt.Errorf("%w: %q", ErrNotTracked, key)
	}
	var old *entry
	if i >= 0 {
		old = a.entries[i]
		d.leaves = []*entry{old}
		a.entries = slices.Delete(a.entries, i, i+1)
	}
	if what != trackNot {
		e := fresh(old)
		d.joins = []*entry{e}
		a.entries = append(a.entries, e)
	}
	return d, nil
}

// delta is a change of a roster: whoever left, then whoever came.
//
// It is also what nodes tell each other. A node publishes the deltas of its own
// members; another makes entries of their keys, refs and texts, keeps those of each
// node by their refs (see [hearsay]), and applies the same delta here. A node that is
// gone is a delta of leaves: all that was kept of it.
type delta struct {
	joins, leaves []*entry
}

// net returns d without the leaves of refs that join: those of a node that was given up
// and is back already. Clients let the leave win otherwise (phoenix.md section 4.4).
func (d delta) net() delta {
	if len(d.joins) == 0 || len(d.leaves) == 0 {
		return d
	}
	back := make(map[string]bool, len(d.joins))
	for _, e := range d.joins {
		back[e.ref] = true
	}
	left := slices.DeleteFunc(slices.Clone(d.leaves), func(e *entry) bool { return back[e.ref] })
	return delta{d.joins, left}
}

func (d delta) empty() bool { return len(d.joins)+len(d.leaves) == 0 }

// since returns what of d, which a turn gave, is news to who knows the roster as it
// was at version.
func (d delta) since(version uint64) (news delta) {
	for _, e := range d.joins {
		if e.at > version {
			news.joins = append(news.joins, e)
		}
	}
	for _, e := range d.leaves {
		if e.at <= version && e.left > version {
			news.leaves = append(news.leaves, e)
		}
	}
	return news
}

// person is everything present under one key: a user, say, with a meta for each
// tab.
type person struct {
	key   string
	metas []*entry // in the order of their coming; never empty
	at    int      // index in roster.order
}

// roster is who is present in one topic, and what of it has yet to be told. It is
// a pure state machine: no lock, no clock, no I/O.
//
// Changes are told once per tick, and all members but the newest know the same: the
// state of the last tick. A newcomer is shown the present state instead, changes that
// wait for the tick included, so it may know an entry that nobody else will ever
// hear of. So each member is told what has changed since the version that it knows.
type roster struct {
	people map[string]*person
	order  []*person
	metas  int
	bytes  int // of the state as JSON, about

	version uint64 // of the last change
	told    uint64 // at the last turn: an entry that came no later is known to all
	shown   uint64 // at the last state: an entry that came no later may be known to newcomers

	joins  []*entry // since the last turn; those that are gone again are passed over
	passed int      // how many those are
	leaves []*entry // since the last turn; those that somebody may know

	text    []byte // the state as JSON up to its last brace
	written int    // of how many of order text tells
}

// apply changes the roster. Whether a change comes from a member here or from
// another node makes no difference.
func (r *roster) apply(d delta) {
	if d.empty() {
		return
	}
	if r.people == nil {
		r.people = map[string]*person{}
	}
	r.version++
	for _, e := range d.leaves {
		r.remove(e)
	}
	for _, e := range d.joins {
		r.add(e)
	}
}

func (r *roster) add(e *entry) {
	p := r.people[e.key]
	if p == nil {
		p = &person{key: e.key, at: len(r.order)}
		r.people[e.key] = p
		r.order = append(r.order, p)
		r.bytes += len(e.key)
	}
	r.rewrite(p.at)
	p.metas = append(p.metas, e)
	e.at = r.version
	r.metas++
	r.bytes += len(e.text)
	r.joins = append(r.joins, e)
}

func (r *roster) remove(e *entry) {
	p := r.people[e.key]
	if p == nil {
		return
	}
	i := slices.Index(p.metas, e)
	if i < 0 {
		return
	}
	e.left = r.version
	p.metas = slices.Delete(p.metas, i, i+1)
	r.metas--
	r.bytes -= len(e.text)
	r.rewrite(p.at)
	if len(p.metas) == 0 {
		r.forget(p)
	}
	if e.at <= max(r.told, r.shown) {
		r.leaves = append(r.leaves, e)
	}
	// One that comes and goes all the time must not fill the memory until the tick.
	if e.at > r.told {
		if r.passed++; r.passed > 32 && r.passed > len(r.joins)/2 {
			r.pass()
		}
	}
}

func (r *roster) pass() {
	r.joins = slices.DeleteFunc(r.joins, func(e *entry) bool { return e.left > 0 })
	r.passed = 0
}

func (r *roster) forget(p *person) {
	end := len(r.order) - 1
	r.order[p.at] = r.order[end]
	r.order[p.at].at = p.at
	r.order[end] = nil
	r.order = r.order[:end]
	delete(r.people, p.key)
	r.bytes -= len(p.key)
}

// rewrite notes that the person at i is not as text says. One behind its end will be
// appended, so that newcomers who come one after the other cost little.
func (r *roster) rewrite(i int) {
	if i < r.written {
		r.text, r.written = r.text[:0], 0
	}
}

// prevOf returns what the successor of old names as its predecessor: the last one
// that members have seen, all of them if there is such a one.
func (r *roster) prevOf(old *entry) string {
	switch {
	case old == nil:
		return ""
	case old.at <= r.told:
		return old.ref
	case old.prev != "":
		return old.prev
	case old.at <= r.shown:
		return old.ref
	}
	return ""
}

// turn ends a tick and returns all that changed in it: who is there and was not, and
// who is gone and may be known to somebody. See [delta.since].
func (r *roster) turn() delta {
	r.pass()
	d := delta{r.joins, r.leaves}
	r.joins, r.leaves = nil, nil
	r.told = r.version
	return d
}

// state returns the present state as JSON, for a newcomer. It is valid until the next
// change.
func (r *roster) state() json.RawMessage {
	r.shown = r.version
	if r.written == 0 {
		r.text = append(r.text[:0], '{')
	}
	for _, p := range r.order[r.written:] {
		if len(r.text) > 1 {
			r.text = append(r.text, ',')
		}
		r.text = appendMetas(r.text, p.key, p.metas)
	}
	r.written = len(r.order)
	return append(r.text, '}')
}

// list returns a copy of the roster.
func (r *roster) list() map[string][]json.RawMessage {
	people := make(map[string][]json.RawMessage, len(r.order))
	for _, p := range r.order {
		metas := make([]json.RawMessage, len(p.metas))
		for i, e := range p.metas {
			metas[i] = e.text
		}
		people[p.key] = metas
	}
	return people
}

// appendDiff appends d as the data of a presence_diff (phoenix.md section 4.1). It
// sorts the slices.
func appendDiff(dst []byte, d delta) []byte {
	dst = appendEntries(append(dst, `{"joins":`...), d.joins)
	dst = appendEntries(append(dst, `,"leaves":`...), d.leaves)
	return append(dst, '}')
}

// appendEntries appends an object of entries by key, in their order for each key.
func appendEntries(dst []byte, entries []*entry) []byte {
	slices.SortStableFunc(entries, func(a, b *entry) int { return cmp.Compare(a.key, b.key) })
	dst = append(dst, '{')
	for i := 0; i < len(entries); {
		end := i + 1
		for end < len(entries) && entries[end].key == entries[i].key {
			end++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMetas(dst, entries[i].key, entries[i:end])
		i = end
	}
	return append(dst, '}')
}

func appendMetas(dst []byte, key string, metas []*entry) []byte {
	dst = append(appendQuoted(dst, key), `:{"metas":[`...)
	for i, e := range metas {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e.text...)
	}
	return append(dst, `]}`...)
}
