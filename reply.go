package realtime

import (
	"errors"
	"sync/atomic"
)

// ErrReplied is returned for a second answer to one message.
var ErrReplied = errors.New("realtime: the message has been answered")

// Reply is a handler's promise to answer a message after it has returned.
type Reply struct {
	to    answerer
	ref   string
	state atomic.Uint32 // 0: the handler's result answers; later values see below
}

const (
	replyLater uint32 = 1 // Later was called
	replySent  uint32 = 2
)

// answerer sends the one answer to a message. It does not block.
type answerer interface {
	answer(ref string, response any, err error)
}

// Send answers the message with response, or with err if that is not nil, as if
// the handler had returned them. It does not block and may be called from any
// goroutine. The second answer to one message is [ErrReplied] and not sent. After
// the connection's end it does nothing.
func (r *Reply) Send(response any, err error) error {
	if r.state.Swap(replySent) == replySent {
		return ErrReplied
	}
	r.to.answer(r.ref, response, err)
	return nil
}

// settle answers with what the handler returned, unless Later was called.
func (r *Reply) settle(response any, err error) {
	if err == nil && r.state.Load() != 0 {
		return
	}
	if r.state.Swap(replySent) != replySent {
		r.to.answer(r.ref, response, err)
	}
}
