package realtime

// receive takes what the broker delivers.
func (t *topic) receive(e *Event) {
	switch {
	case e.Gap != nil:
		t.lose(e)
	case t.pattern.intercepts[e.Name] != nil:
		t.present(e)
	default:
		e.setKey(t.pattern.policy) // it has none if it was published on another node
		t.deliver(e)
	}
}

// setKey asks the host for the key of an event, once.
func (e *Event) setKey(p Policy) {
	if p.key != nil && !e.keyed {
		e.key, e.keyed = p.key(e.Name, e.Data), true
	}
}

// present has every member's own handler see e first, which the host wants of
// events of its name.
func (t *topic) present(e *Event) {
	for _, c := range t.clients() {
		if c.id != e.Except {
			c.link.offer(e)
		}
	}
}

// loss is the news of a gap on its way to the members of a topic.
type loss struct {
	topic *topic
	event *Event
	anew  bool // the stream began anew
	wakes wakes
	slow  []*Client
}

// lose tells every member that events are missing: no other has come since those
// before them.
func (t *topic) lose(e *Event) {
	t.mu.Lock()
	l := loss{topic: t, event: e, anew: e.Epoch != "" && e.Epoch != t.last.Epoch}
	if l.anew || e.Epoch == "" || e.Offset > t.last.Offset {
		l.tellLocked()
	}
	t.mu.Unlock()
	l.wakes.flush(t.pool, false)
	for _, c := range l.slow {
		c.link.disconnect(ReasonSlowConsumer, nil, nil)
	}
}

func (l *loss) tellLocked() {
	t, e := l.topic, l.event
	if e.Epoch != "" {
		t.last = Position{Epoch: e.Epoch, Offset: e.Offset}
	}
	for i := range t.members.blocks() {
		for _, m := range t.members.block(i) {
			if g := l.gapLocked(m); g != nil {
				l.pushLocked(m, g)
			}
		}
	}
}

// gapLocked returns what m is to be told in its place of the stream, nil for
// nothing.
func (l *loss) gapLocked(m *member) *gap {
	t, e := l.topic, l.event
	switch {
	case l.anew:
		t.count.recoveries[RecoveryReload].Add(1)
		if m.cursor = e.Offset; !m.behind {
			return e.anew()
		}
		t.replayToLocked(m, []*Event{e})
		return nil
	case m.behind: // it finds the hole by itself
		return nil
	case e.Gap.From == 0:
		t.count.behind.Add(1)
		return &gap{policy: gapBroker, unknown: true}
	}
	from := max(e.Gap.From, m.cursor+1)
	if from > e.Gap.To {
		return nil // it has them from the history
	}
	t.count.behind.Add(1)
	return &gap{policy: gapBroker, dropped: e.Gap.To + 1 - from, from: from, to: e.Gap.To}
}

func (l *loss) pushLocked(m *member, g *gap) {
	switch res := m.client.out.pushGap(&l.topic.stream, g); res {
	case pushWake:
		l.wakes.add(m.client, res)
	case pushSlow:
		l.slow = append(l.slow, m.client)
	case pushLag:
		cursor := g.from - 1
		if l.anew {
			cursor = l.event.Offset
			l.topic.replayToLocked(m, []*Event{l.event})
		}
		m.lagLocked(cursor)
	}
}
