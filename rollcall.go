package realtime

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"
)

// Events of presence (phoenix.md section 4; the last is ours).
const (
	presenceState = "presence_state"
	presenceDiff  = "presence_diff"
	presenceCount = "presence_count"
)

// rollCall keeps the roster of one topic and tells the members. It implements
// [attendance].
//
// State, answer to a join and diffs are queued under the topic's lock, so that no
// change gets lost between them. Their frames belong to no stream: no policy drops
// one, no member that reads from the history misses one, and a client without room
// for one is closed as a slow consumer. They are no part of the history and do not
// go through the broker.
type rollCall struct {
	topic *topic
	rules *presenceRules
	wheel *wheel
	refs  *refs
	gauge counter // entries on this node
	entry wheelEntry
	nodes *exchange // with those of other nodes; nil when alone

	// Guarded by the topic's lock.
	roster
	due      bool              // the wheel will ask
	counting bool              // too many are present for a list
	counted  bool              // the members know that they are counted only
	count    int               // the last that they were told
	frames   [maxCodecs]*frame // of the state, for protocols in which it is the same for all
	framed   uint64            // the version that frames tell
}

// refs makes refs that no other entry has, on whatever node.
type refs struct {
	node [4]byte       // at random
	last atomic.Uint64 // began as the time in ns, which no counting overtakes, and so differs after a restart
}

func newRefs() *refs {
	r := &refs{}
	rand.Read(r.node[:])
	r.last.Store(uint64(time.Now().UnixNano()))
	return r
}

// next returns 16 characters, as Phoenix's are: time, counter and node.
func (r *refs) next() string {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], r.last.Add(1))
	copy(b[8:], r.node[:])
	return base64.URLEncoding.EncodeToString(b[:])
}

// admitLocked implements [attendance].
func (r *rollCall) admitLocked(m *member) (slow bool) {
	if m.present == nil {
		m.present = &attendee{}
	}
	r.applyLocked(delta{joins: m.present.entries})
	m.present.seen = r.version
	var wake chain
	for _, f := range r.welcomeLocked(m) {
		slow = slow || r.giveLocked(m, f, &wake)
	}
	r.topic.pool.add(&wake)
	return slow
}

// leftLocked implements [attendance].
func (r *rollCall) leftLocked(m *member) {
	r.applyLocked(delta{leaves: m.present.entries})
	m.present.entries = nil
}

// close implements [attendance].
func (r *rollCall) close() {
	if r.nodes != nil {
		r.nodes.close() // which changes nothing here afterwards
	}
	r.wheel.cancel(&r.entry)
}

// mineLocked returns what the members here have tracked.
func (r *rollCall) mineLocked() (entries []*entry) {
	for m := range r.topic.members.all() {
		entries = append(entries, m.present.entries...)
	}
	return entries
}

// change makes a change to what m has tracked. The caller sees to it that m stays a
// member meanwhile.
func (r *rollCall) change(m *member, what tracking, key string, fields []byte) error {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	d, err := m.present.change(what, key, func(old *entry) *entry {
		return newEntry(key, r.refs.next(), r.prevOf(old), fields)
	})
	r.applyLocked(d)
	return err
}

// who returns a copy of the roster.
func (r *rollCall) who() map[string][]json.RawMessage {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	return r.list()
}

// applyLocked makes a change by members here, which all members hear of at the tick.
func (r *rollCall) applyLocked(d delta) {
	if d.empty() {
		return
	}
	r.changeLocked(d)
	r.gauge.Add(float64(len(d.joins) - len(d.leaves)))
	if r.nodes != nil {
		r.nodes.say.note(d)
	}
}

// changeLocked makes a change, whoever it is by.
func (r *rollCall) changeLocked(d delta) {
	if d.empty() {
		return
	}
	r.apply(d)
	r.counting = r.counting || r.aboveLocked(1)
	if !r.due && (r.topic.members.len() > 0 || r.nodes != nil) {
		r.due = true
		r.wheel.schedule(&r.entry, r, time.Now().Add(r.rules.tick))
	}
}

// stateShare is the most of a queue's bytes that the list of a topic may take: every
// member has to have room for a list and a diff beside what waits already.
const stateShare = 2

// aboveLocked reports whether the roster is above part of what may be listed.
func (r *rollCall) aboveLocked(part float64) bool {
	if float64(len(r.order)) > part*float64(r.rules.limit) {
		return true
	}
	ms := &r.topic.members
	return ms.len() > 0 && float64(r.bytes) > part*float64(ms.block(0)[0].client.out.bounds.bytes/stateShare)
}

// backAt is how far a roster has to shrink before it is listed again, so that one
// that is about at its limit does not go to and fro: each way costs a message to all.
const backAt = 0.75

// expire implements [expirer]: it tells all members what has changed.
func (r *rollCall) expire(time.Time) time.Time {
	t := r.topic
	var wake chain
	var slow []*Client
	t.mu.Lock()
	r.due = false
	if r.framed != r.version {
		r.frames = [maxCodecs]*frame{} // nobody will ask for them
	}
	b := r.turnLocked()
	if r.nodes != nil {
		r.nodes.kickLocked()
	}
	for m := range t.members.all() {
		for _, n := range r.newsLocked(b, m.present.seen) {
			if f := n.frame(m.client.enc); f != nil && r.giveLocked(m, f, &wake) {
				slow = append(slow, m.client)
				break
			}
		}
	}
	t.mu.Unlock()
	t.pool.add(&wake)
	for _, c := range slow {
		c.link.disconnect(ReasonSlowConsumer, nil, nil)
	}
	return time.Time{}
}

// bulletin is what one tick has to tell.
type bulletin struct {
	all     []*notice // for everybody, nil if it depends on what a member knows
	told    uint64    // the version that members know who were shown none since
	changes delta
	diffs   []versionDiff
	rough   []*notice // the diff for versions beyond maxDiffs
	count   []*notice // for members who do not know the present count; nil while listed
	same    bool      // the count has not changed since the last tick
}

// versionDiff is the diff for members who know one version; no notice if nothing is
// news to them.
type versionDiff struct {
	version uint64
	notices []*notice
}

// maxDiffs is how many diffs are made for one tick. When more newcomers than that
// came between changes, as in a rush, the others share one that repeats some of what
// they were shown, which clients put up with (phoenix.md section 4.3): a diff for
// each would cost the square of the rush.
const maxDiffs = 8

// turnLocked ends a tick.
func (r *rollCall) turnLocked() *bulletin {
	b := &bulletin{told: r.told}
	b.changes = r.turn()
	was, count := r.counted, len(r.order)
	r.counting = r.counting && r.aboveLocked(backAt)
	r.counted = r.counting
	switch {
	case r.counting && !was:
		b.all = []*notice{r.noticeLocked(presenceState, noPeople), r.noticeLocked(presenceCount, countData(count))}
	case r.counting:
		b.count, b.same = []*notice{r.noticeLocked(presenceCount, countData(count))}, count == r.count
	case was:
		b.all = []*notice{r.noticeLocked(presenceState, r.state())}
	}
	r.count = count
	return b
}

// newsLocked returns what of b is news to a member that was shown a version when it
// joined.
func (r *rollCall) newsLocked(b *bulletin, seen uint64) []*notice {
	version := max(seen, b.told)
	switch {
	case b.all != nil:
		return b.all
	case version == r.version || b.count != nil && b.same && version == b.told:
		return nil
	case b.count != nil:
		return b.count
	}
	for _, d := range b.diffs {
		if d.version == version {
			return d.notices
		}
	}
	if len(b.diffs) < maxDiffs || version == b.told {
		d := versionDiff{version, r.diffLocked(b.changes.since(version))}
		b.diffs = append(b.diffs, d)
		return d.notices
	}
	if b.rough == nil {
		b.rough = r.diffLocked(b.changes)
	}
	return b.rough
}

func (r *rollCall) diffLocked(news delta) []*notice {
	if news.empty() {
		return nil
	}
	if r.nodes != nil {
		news = news.net()
	}
	return []*notice{r.noticeLocked(presenceDiff, appendDiff(nil, news))}
}

// noPeople is the list of a topic that is counted only: what is shown is either
// right or empty.
var noPeople = json.RawMessage("{}")

func countData(n int) json.RawMessage { return fmt.Appendf(nil, `{"count":%d}`, n) }

func (r *rollCall) noticeLocked(event string, data json.RawMessage) *notice {
	r.topic.count.notices.Add(1)
	return &notice{outbound: outbound{kind: kindEvent, topic: r.topic.name, event: event, data: data}}
}

// welcomeLocked returns what m is told of the roster right after the answer to its
// join.
func (r *rollCall) welcomeLocked(m *member) []*frame {
	out := outbound{kind: kindEvent, topic: r.topic.name, event: presenceState, joinRef: m.present.joinRef, data: noPeople}
	if !r.counting {
		return []*frame{r.stateFrameLocked(m, &out)}
	}
	state := seal(m.client.enc, &out)
	out.event, out.data = presenceCount, countData(len(r.order))
	return []*frame{state, seal(m.client.enc, &out)}
}

func (r *rollCall) stateFrameLocked(m *member, out *outbound) *frame {
	if m.present.joinRef != "" {
		out.data = r.state()
		return sealLarge(m.client.enc, out)
	}
	if r.framed != r.version {
		r.frames, r.framed = [maxCodecs]*frame{}, r.version
	}
	f := &r.frames[m.client.enc.slot()]
	if *f == nil {
		out.data = r.state()
		*f = sealLarge(m.client.enc, out)
	}
	return *f
}

// giveLocked queues f, if there is one, and reports whether there was no room.
func (r *rollCall) giveLocked(m *member, f *frame, wake *chain) (slow bool) {
	if f == nil {
		return false
	}
	switch m.client.out.push(f) {
	case pushSlow:
		return true
	case pushWake:
		if m.client.raw == nil {
			go m.client.writeLoop()
		} else if wake.add(&m.client.outlet); wake.n == share {
			r.topic.pool.add(wake)
		}
	}
	return false
}
