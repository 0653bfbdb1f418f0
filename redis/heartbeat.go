package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-58bc6ac1/realtime"
)

// heartbeatLoop asks at every heartbeat, at once when there is a doubt, and often
// while the server is out of reach, whether commands and messages get through, until
// ctx ends. At every heartbeat it has all topics compared with the server, spread
// over the time to the next.
func (l *lane) heartbeatLoop(ctx context.Context) {
	next := time.Now()
	for pause := time.Duration(0); ctx.Err() == nil; {
		if l.probe(ctx) == nil {
			pause = 0
			l.payDebts(ctx)
		} else {
			pause = min(max(2*pause, 50*time.Millisecond), time.Second)
		}
		if now := time.Now(); pause == 0 && !now.Before(next) {
			next = now.Add(l.heartbeat*3/4 + time.Duration(rand.Int64N(int64(l.heartbeat/4)+1)))
			l.checkAll()
		}
		l.rest(ctx, pause, next)
	}
}

// rest waits for the next probe.
func (l *lane) rest(ctx context.Context, pause time.Duration, next time.Time) {
	if pause > 0 {
		wait(ctx, pause)
		return
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.health.suspect:
	case <-ctx.Done():
	}
}

var errDeaf = errors.New("what is published does not come back")

// probe has the server write and publish something, and waits for the copy. A failure
// of any kind but refused writes means that the server is out of reach.
func (l *lane) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	command, err := l.publishCommand(ctx)
	if err != nil {
		l.health.setCommands(standing{realtime.BrokerDown, explain(err, l.timeout)})
		return err
	}
	id := l.ids.next()
	text := string(id[:])
	came, kick := l.link.expect(text)
	asked := time.Now()
	err = probeScript.Exec(ctx, l.client, []string{l.key("probe", "")}, []string{l.link.ping, command, text}).Error()
	if err = explain(err, l.timeout); err != nil {
		l.unwell(err)
		return err
	}
	l.health.answered(time.Since(asked), l.timeout/3)
	if came != nil {
		select {
		case <-came:
		case <-ctx.Done():
			kick(errDeaf)
		}
	}
	return nil
}

// payDebts tells all nodes that they missed something.
func (l *lane) payDebts(ctx context.Context) {
	for {
		l.mu.Lock()
		topic, some := "", false
		for topic = range l.debts {
			some = true
			delete(l.debts, topic)
			break
		}
		l.mu.Unlock()
		if !some {
			return
		}
		if l.send(ctx, topic, string(gapMessage)) != nil {
			l.owe(topic)
			return
		}
	}
}

func (l *lane) unwell(err error) {
	state := realtime.BrokerDown
	if severity(err) == partial {
		state = realtime.BrokerDegraded
	}
	l.health.setCommands(standing{state, err})
}

// checkAll has all topics with history compared within the heartbeat.
func (l *lane) checkAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = l.rounds[:0]
	for _, t := range l.topics {
		if t.history != nil {
			l.rounds = append(l.rounds, t)
		}
	}
	select {
	case l.due <- struct{}{}:
	default:
	}
}

// checkBatch is how many topics are asked for in one go.
const checkBatch = 128

// checkLoop compares topics with the server until ctx ends: those that are due at once
// before the rest, and the rest with pauses. What it cannot ask for it asks again once
// the server is back.
func (l *lane) checkLoop(ctx context.Context) {
	for ctx.Err() == nil {
		topics, pause := l.takeChecks()
		if failed := l.compare(ctx, topics); len(failed) > 0 {
			l.checkAgain(failed)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		if len(topics) > 0 && pause == 0 {
			continue
		}
		if len(topics) == 0 {
			pause = l.heartbeat
		}
		timer := time.NewTimer(pause)
		select {
		case <-l.due:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// takeChecks returns some topics that are due, and for how long to wait after these.
func (l *lane) takeChecks() (topics []*topic, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.checks {
		delete(l.checks, t)
		if topics = append(topics, t); len(topics) == checkBatch {
			break
		}
	}
	if len(topics) > 0 || len(l.rounds) == 0 {
		return topics, 0
	}
	n := min(checkBatch, len(l.rounds))
	topics = append(topics, l.rounds[:n]...)
	l.rounds = l.rounds[n:]
	if left := len(l.rounds) / checkBatch; left > 0 {
		pause = l.heartbeat / 2 / time.Duration(left+1)
	}
	return topics, pause
}

func (l *lane) checkAgain(topics []*topic) {
	for _, t := range topics {
		l.check(t)
	}
}

// compare asks how the streams of some topics stand, all at once, and looks closer at
// those that differ. It returns the topics that could not be compared: one whose keys
// are not what they should be must not keep the others from being mended.
func (l *lane) compare(ctx context.Context, topics []*topic) (failed []*topic) {
	if len(topics) == 0 {
		return nil
	}
	if l.health.refuses() != nil {
		return topics
	}
	marks := make([]mark, len(topics))
	for i, t := range topics {
		t.mu.Lock()
		marks[i] = t.history.mark()
		t.mu.Unlock()
	}
	for i, a := range l.askAll(ctx, topics) {
		if topics[i].settle(ctx, marks[i], a) != nil {
			failed = append(failed, topics[i])
		}
	}
	return failed
}

// askAll runs the check for several topics in one go. It does not load the script
// first, which would be on all servers of a Cluster and fail with any of them: a
// server that does not know it is given it with the topic itself.
func (l *lane) askAll(ctx context.Context, topics []*topic) []rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	calls := make(rueidis.Commands, len(topics))
	for i, t := range topics {
		calls[i] = l.client.B().Evalsha().Sha1(checkDigest).Numkeys(2).Key(l.streamKeys(t.name)...).Arg(t.checkArgs()...).Build()
	}
	answers := l.client.DoMulti(ctx, calls...)
	for i, t := range topics {
		if err, some := rueidis.IsRedisErr(answers[i].Error()); some && err.IsNoScript() {
			answers[i] = checkScript.Exec(ctx, l.client, l.streamKeys(t.name), t.checkArgs())
		}
	}
	return answers
}

// settle looks closer if the server does not agree.
func (t *topic) settle(ctx context.Context, at mark, result rueidis.RedisResult) error {
	m, err := result.ToMessage()
	if err != nil {
		return t.way.failed("compare "+t.name, err)
	}
	r, err := parseAnswer(m, 0)
	if err != nil || t.compare(at, r) {
		return err
	}
	if err := t.look(ctx); err != nil && err != errGone {
		return err
	}
	return nil
}
