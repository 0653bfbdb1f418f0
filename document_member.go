package realtime

import (
	"encoding/json"
)

// participant is one client that is connected to a document. It gets what is
// queued for it, or, once its queue has no room, reads the log at its cursor: so
// nothing is skipped, and it costs no memory for what it has yet to get.
type participant struct {
	// Set before the session knows it, never changed.
	id     string // the clientId
	mode   string
	object json.RawMessage // its description, the same bytes wherever it is told
	client *Client
	ch     *channel
	member *member // what it belongs to ends with this membership
	source source  // reads the log for it

	// Guarded by the session's lock.
	at       int    // index in the session's participants
	order    uint64 // in which they came
	gone     bool   // the session does not know it any more
	departed bool   // the others were told that it has left
	behind   bool   // it reads the log from cursor on
	cursor   int64  // the last message that it was given; kept while behind
	held     []held // what is not in the log, while behind
	bytes    int    // of held
}

// admission is a client that has passed all checks of connect_document.
type admission struct {
	p         *participant
	summaries bool // may summarize
	claims    []byte
	version   string
	features  []byte
	lastSeen  int64 // -1 for none

	// Once it is in.
	clients []DocumentClient // all that are there, in the order of their coming
	sn      int64            // of the document, its own join included
}

// held is a frame that follows the message sn.
type held struct {
	sn    int64
	frame *frame
}

// pushed is queued unless the membership has ended: nothing follows its end.
func (p *participant) push(f *frame) pushed {
	s := p.ch.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ch.member != p.member {
		return pushClosed
	}
	return s.out.push(f)
}

// giveLocked queues the frame of an op event whose messages run from first on. The
// participant has got all before.
func (p *participant) giveLocked(f *frame, first int64) pushed {
	if p.behind {
		return pushQueued // it will read them
	}
	res := p.push(f)
	if res == pushLag {
		res = p.lagLocked(first - 1)
	}
	return res
}

// tellLocked queues what is not in the log, in its place right after the message
// sn. It returns pushSlow when too much of that waits already.
func (p *participant) tellLocked(f *frame, sn int64) pushed {
	if !p.behind {
		res := p.push(f)
		if res != pushLag {
			return res
		}
		res = p.lagLocked(sn)
		p.holdLocked(f, sn)
		return res
	}
	bounds := p.client.out.bounds
	if len(p.held) >= bounds.messages || p.bytes > 0 && p.bytes+len(f.wire) > bounds.bytes {
		return pushSlow
	}
	p.holdLocked(f, sn)
	return pushQueued
}

func (p *participant) holdLocked(f *frame, sn int64) {
	p.held = append(p.held, held{sn, f})
	p.bytes += len(f.wire)
}

// lagLocked lets the participant go on from the log, after cursor.
func (p *participant) lagLocked(cursor int64) pushed {
	p.behind, p.cursor = true, cursor
	return p.client.out.lag(p.source)
}

// nextLocked says what a participant that is behind gets next: frames that it was
// told, or else the messages up to to. Neither means that it has caught up with
// newest, and is back on the live stream.
func (p *participant) nextLocked(newest int64) (frames []*frame, to int64) {
	for len(p.held) > 0 && p.held[0].sn <= p.cursor {
		frames = append(frames, p.held[0].frame)
		p.bytes -= len(p.held[0].frame.wire)
		p.held[0] = held{}
		p.held = p.held[1:]
	}
	if to = newest; len(p.held) > 0 {
		to = min(to, p.held[0].sn)
	}
	if len(frames) > 0 || p.cursor < to {
		return frames, to
	}
	p.behind, p.held = false, nil
	return nil, 0
}

// end closes the participant's channel, unless that has been left already.
func (p *participant) end(why *Error) bool {
	return p.ch.leaveFrom(p.member, ReasonDisconnected, &outbound{kind: kindLeft, topic: p.ch.name, err: why})
}

// errDocumentClosed tells of an end after which the client should join again.
var errDocumentClosed = &Error{Code: string(ReasonDisconnected), Text: "The document channel was closed", Retry: RetryBackoff}
