package realtime

import (
	"fmt"
	"sync"
	"time"
)

// RateLimit bounds how often something may happen: a bucket of burst tokens that
// fills at perSecond tokens a second, one token each. Several limits of the same
// kind may be given and then all hold; a message that one of them refuses costs
// no token of the others.
type RateLimit struct {
	scope     string
	event     string
	perSecond float64
	burst     int
	warn      bool
}

// The scopes of limits, as metric labels and in the log.
const (
	scopeConnection = "connection"
	scopeUser       = "user"
	scopeIP         = "ip"
	scopeEvent      = "event"
	scopeConnects   = "connects"
	scopeAccept     = "accept"
)

// PerConnection bounds the messages of each connection; every message counts,
// ping too. A message over the rate is answered with the time to wait, ten times
// in any ten seconds; the next one closes the connection as [ReasonRateLimited].
func PerConnection(perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeConnection, perSecond: perSecond, burst: burst}
}

// PerUser bounds the messages of all connections of one user together, on all nodes
// that have a broker in common. Anonymous connections are not counted.
//
// No node asks the others before it lets a message through; each tells them afterwards,
// at once when a tenth of the burst was spent and within 250 ms otherwise. So a user
// who is on N nodes may get N-1 tenths of the burst more than the limit, and what
// passes while a message between nodes is under way. While the broker is down each
// node counts alone.
func PerUser(perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeUser, perSecond: perSecond, burst: burst}
}

// PerIP bounds the messages of all connections from one address together, on all
// nodes as [PerUser] does. IPv6 addresses that share their first 64 bits count as one.
func PerIP(perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeIP, perSecond: perSecond, burst: burst}
}

// PerEvent bounds the messages of one type, for each connection, on all topics
// together; "subscribe" and the other types of the protocol are types, too.
func PerEvent(event string, perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeEvent, event: event, perSecond: perSecond, burst: burst}
}

// ConnectsPerIP bounds the handshakes from one address with this node; an address is
// what [PerIP] takes for one. One over the rate is refused as [ReasonRateLimited].
func ConnectsPerIP(perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeConnects, perSecond: perSecond, burst: burst}
}

// AcceptRate bounds the handshakes of the whole server. One over the rate is
// refused as [ReasonOverloaded].
func AcceptRate(perSecond float64, burst int) RateLimit {
	return RateLimit{scope: scopeAccept, perSecond: perSecond, burst: burst}
}

// WarnOnly returns l as a limit that refuses nothing: what is over the rate is
// counted and logged, so that a limit can be tried out before it bites.
func WarnOnly(l RateLimit) RateLimit {
	l.warn = true
	return l
}

// longestFill is the longest time that an empty bucket may take to fill. It
// keeps the arithmetic far from overflow and catches swapped arguments.
const longestFill = 31 * 24 * time.Hour

func (l RateLimit) rule() (rule, error) {
	name := l.scope
	if l.scope == scopeEvent {
		name = fmt.Sprintf("event %q", l.event)
	}
	switch {
	case l.scope == "":
		return rule{}, fmt.Errorf("realtime: a RateLimit is made by PerConnection, PerUser, PerIP, PerEvent, ConnectsPerIP or AcceptRate")
	case l.scope == scopeEvent && l.event == "":
		return rule{}, fmt.Errorf("realtime: rate limit per event without the event's name")
	case !(l.perSecond > 0 && l.perSecond <= 1e9): // in this form it refuses NaN too
		return rule{}, fmt.Errorf("realtime: rate limit per %s: %v per second is not between 0 and 1e9", name, l.perSecond)
	case l.burst < 1:
		return rule{}, fmt.Errorf("realtime: rate limit per %s: a burst of %d lets nothing through", name, l.burst)
	case float64(l.burst)/l.perSecond > longestFill.Seconds():
		return rule{}, fmt.Errorf("realtime: rate limit per %s: a burst of %d at %v per second takes more than %v to fill", name, l.burst, l.perSecond, longestFill)
	}
	step := time.Duration(float64(time.Second) / l.perSecond)
	return rule{step: step, slack: time.Duration(l.burst-1) * step, scope: l.scope, event: l.event, warn: l.warn}, nil
}

// verdict is the answer to one message or handshake.
type verdict struct {
	ok     bool
	wait   time.Duration // not ok: when the next would pass
	last   bool          // not ok: the soft answers are used up, close
	warned bool          // a limit that only warns was passed
	scope  string        // which limit refused or, if ok, warned: from a fixed set; "" for none
}

// reason is why a handshake or connection ends over a verdict that is not ok.
func (v verdict) reason() Reason {
	if v.scope == scopeAccept {
		return ReasonOverloaded
	}
	return ReasonRateLimited
}

// ask lowers v if one of rules has no token left. full has a time for each rule.
// It takes nothing.
func (v *verdict) ask(rules []rule, full []time.Time, event string, now time.Time) {
	for i := range rules {
		r := &rules[i]
		if r.event != event && r.event != "" {
			continue
		}
		untilFull := full[i].Sub(now)
		switch {
		case untilFull <= r.slack:
		case r.warn:
			v.warned = true
			if v.ok {
				v.scope = r.scope
			}
		case v.ok || untilFull-r.slack > v.wait:
			v.ok, v.wait, v.scope = false, untilFull-r.slack, r.scope
		}
	}
}

// spend takes a token of each rule that has one. One that only warns may have
// none: it owes nothing for what it let through.
func spend(rules []rule, full []time.Time, event string, now time.Time) {
	for i := range rules {
		r := &rules[i]
		if r.event != event && r.event != "" || full[i].Sub(now) > r.slack {
			continue
		}
		if full[i].Before(now) {
			full[i] = now
		}
		full[i] = full[i].Add(r.step)
	}
}

// spendLocked takes a token of one, whose lock the caller holds, for each rule that has
// one.
func (b *buckets) spendLocked(one *bucket, now time.Time) {
	spend(b.rules, one.full, "", now)
	if b.tell == nil {
		return
	}
	if one.spent++; one.spent == 1 || one.spent >= b.much {
		b.tell(one, one.spent >= b.much)
	}
}

// limiter holds the limits of a server and the buckets that connections share.
type limiter struct {
	own      []rule // per connection and per event: the buckets are the meter's
	user, ip *buckets
	connects *buckets
	accept   []rule

	perSecond float64 // for told
	burst     int

	mu       sync.Mutex // guards accepted
	accepted []time.Time
}

func newLimiter(limits []RateLimit) (*limiter, error) {
	byScope := map[string][]rule{}
	for _, l := range limits {
		r, err := l.rule()
		if err != nil {
			return nil, err
		}
		byScope[r.scope] = append(byScope[r.scope], r)
	}
	l := &limiter{
		own:      append(byScope[scopeConnection], byScope[scopeEvent]...),
		user:     newBuckets(byScope[scopeUser]),
		ip:       newBuckets(byScope[scopeIP]),
		connects: newBuckets(byScope[scopeConnects]),
		accept:   byScope[scopeAccept],
		accepted: make([]time.Time, len(byScope[scopeAccept])),
	}
	for _, one := range limits {
		if one.scope == scopeConnection && !one.warn && (l.perSecond == 0 || one.perSecond < l.perSecond) {
			l.perSecond, l.burst = one.perSecond, one.burst
		}
	}
	return l, nil
}

// told is the strictest limit on the messages of one connection, for clients to
// know; 0 if there is none, or one that only warns.
func (l *limiter) told() (perSecond float64, burst int) { return l.perSecond, l.burst }

// admit decides about a handshake from ip. It does not block.
func (l *limiter) admit(ip string, now time.Time) verdict {
	v := verdict{ok: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	v.ask(l.accept, l.accepted, "", now)
	if l.connects != nil {
		b := l.connects.acquire(addressKey(ip), now)
		defer l.connects.release(b)
		b.mu.Lock()
		defer b.mu.Unlock()
		v.ask(l.connects.rules, b.full, "", now)
		if v.ok {
			spend(l.connects.rules, b.full, "", now)
		}
	}
	if v.ok {
		spend(l.accept, l.accepted, "", now)
	}
	return v
}

// meter makes the meter of one connection; user is "" for anonymous. It returns
// nil, a meter that lets everything pass, if no limit counts its messages.
func (l *limiter) meter(user, ip string) *meter {
	if len(l.own) == 0 && l.ip == nil && (l.user == nil || user == "") {
		return nil
	}
	return &meter{limiter: l, user: user, ip: ip}
}

// The soft answers of one connection (envelope.md section 6).
const (
	softAnswers = 10
	softWindow  = 10 * time.Second
)

// meter counts the messages of one connection. Only the goroutine that reads
// the connection may use it.
type meter struct {
	limiter  *limiter
	user, ip string

	bound  bool // the following are set
	full   []time.Time
	byUser *bucket // nil if no limit counts
	byIP   *bucket

	soft *softCount // nil until a message is refused
}

// softCount is a ring of the times of the last soft answers.
type softCount struct {
	at   [softAnswers]time.Time
	next int
}

// take decides about one message. Either every limit that applies has a token
// and gives it, or none gives one. It does not block, and allocates only on the
// first message and the first refusal of a connection.
func (m *meter) take(event string, now time.Time) verdict {
	v := verdict{ok: true}
	if m == nil {
		return v
	}
	if !m.bound {
		m.bind(now)
	}
	l := m.limiter
	v.ask(l.own, m.full, event, now)
	// Always the user before the address, so that no two meters wait for each other.
	if m.byUser != nil {
		m.byUser.mu.Lock()
		defer m.byUser.mu.Unlock()
		v.ask(l.user.rules, m.byUser.full, event, now)
	}
	if m.byIP != nil {
		m.byIP.mu.Lock()
		defer m.byIP.mu.Unlock()
		v.ask(l.ip.rules, m.byIP.full, event, now)
	}
	if !v.ok {
		v.last = m.refused(now)
		return v
	}
	spend(l.own, m.full, event, now)
	if m.byUser != nil {
		l.user.spendLocked(m.byUser, now)
	}
	if m.byIP != nil {
		l.ip.spendLocked(m.byIP, now)
	}
	return v
}

func (m *meter) bind(now time.Time) {
	m.bound = true
	l := m.limiter
	m.full = make([]time.Time, len(l.own))
	if l.user != nil && m.user != "" {
		m.byUser = l.user.acquire(m.user, now)
	}
	if l.ip != nil {
		m.byIP = l.ip.acquire(addressKey(m.ip), now)
	}
}

// refused counts a soft answer, or reports that there is none left.
func (m *meter) refused(now time.Time) (last bool) {
	if m.soft == nil {
		m.soft = new(softCount)
	}
	oldest := &m.soft.at[m.soft.next]
	if !oldest.IsZero() && now.Sub(*oldest) < softWindow {
		return true
	}
	*oldest = now
	m.soft.next = (m.soft.next + 1) % softAnswers
	return false
}

// close lets go of the buckets that m shares with others. m must not be used
// afterwards; closing it again, or a nil one, does nothing.
func (m *meter) close() {
	if m == nil {
		return
	}
	if m.byUser != nil {
		m.limiter.user.release(m.byUser)
		m.byUser = nil
	}
	if m.byIP != nil {
		m.limiter.ip.release(m.byIP)
		m.byIP = nil
	}
}
