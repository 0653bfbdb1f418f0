package realtime

import (
	"errors"
	"sync/atomic"
)

// ErrReplied is returned for a second answer to one message.
var ErrReplied = errors.New("realtime: the message has been answered")

// Nothing, as a response, means that no reply is sent: the client does not wait for
// one. Returned by a function given to [Pattern.Intercept] it means that the client
// does not get the event.
var Nothing any = nothing{}

type nothing struct{}

// Status is a response with a status of its own, such as "ignored", which Phoenix's
// clients match by name, and realtime.v1 shows beside the response. Without it a
// response has the status "ok".
type Status struct {
	Name     string
	Response any
}

// ErrStop and ErrCrash, in the chain of a handler's error, end the client's
// membership once the response beside it has been sent as the reply ([Nothing] for
// none). After ErrStop the client is out; after ErrCrash, which is logged, it
// should join again.
var (
	ErrStop  = errors.New("realtime: the membership ends")
	ErrCrash = errors.New("realtime: the membership has crashed")
)

// Reply is a handler's promise to answer a message after it has returned.
type Reply struct {
	to      answerer
	ref     string
	joinRef string        // of the membership that the message was for
	state   atomic.Uint32 // 0: the handler's result answers; later values see below
}

const (
	replyLater uint32 = 1 // Later was called
	replySent  uint32 = 2
)

// answerer sends the one answer to a message. It does not block.
type answerer interface {
	answer(r *Reply, response any, err error)
}

// Send answers the message with response, or with err if that is not nil, as if
// the handler had returned them. It does not block and may be called from any
// goroutine. The second answer to one message is [ErrReplied] and not sent. After
// the connection's end it does nothing.
func (r *Reply) Send(response any, err error) error {
	if r.state.Swap(replySent) == replySent {
		return ErrReplied
	}
	r.to.answer(r, response, err)
	return nil
}

// settle answers with what the handler returned, unless Later was called.
func (r *Reply) settle(response any, err error) {
	if err == nil && r.state.Load() != 0 {
		return
	}
	if r.state.Swap(replySent) != replySent {
		r.to.answer(r, response, err)
	}
}
