package realtime

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"time"
)

// RawHandler serves one connection of a raw mount: it reads and writes the
// stream until it is done, and then returns; the connection is closed. An error
// that holds a [Reason] or an [*Error] decides how; any other is logged and
// closes as "internal". ctx ends with the connection, and so does every Read
// and Write.
//
// Read returns the bytes of the client's messages, text or binary, as one
// stream; the client is held back while nobody reads, and while it is over the
// rate. Write sends one binary
// message and returns when it has been handed to the socket, so a slow client
// holds the writer back. Both may be used at the same time, and after the end they
// return io.EOF or [ErrClosed]. The stream's Close, like a return without an error,
// ends the connection with code 1000; logs and metrics call that "disconnected".
type RawHandler func(ctx context.Context, c *Client, stream io.ReadWriteCloser) error

// Raw returns a mount for byte streams, such as a terminal's: the same
// admission, authentication, heartbeat, metrics and closes as elsewhere, but no
// envelope, no topics and no queue. Clients offer no subprotocol or "realtime.raw",
// and bring their token in the handshake. Each incoming message counts against the
// rate; over it the client is held back. It panics on a mistake in the options;
// Protocols has no effect.
func (s *Server) Raw(h RawHandler, opts ...MountOption) *Mount {
	if h == nil {
		panic("realtime: Raw: no handler")
	}
	m := s.Mount(opts...)
	m.codecs = []codec{rawCodec{}}
	m.sources &^= TokenMessage
	m.to = func(c *conn) receiver {
		pr, pw := io.Pipe()
		return &rawStream{conn: c, handler: h, pipe: pr, in: pw}
	}
	return m
}

// rawCodec has no messages.
type rawCodec struct{}

func (rawCodec) protocol() string { return "realtime.raw" }

func (rawCodec) answers() bool { return false }

func (rawCodec) slot() int { return 0 } // never used: it encodes nothing

func (rawCodec) decode(payload []byte, _ bool) (inbound, *Error) {
	return inbound{data: payload}, nil
}

func (rawCodec) encode(dst []byte, _ *outbound) ([]byte, opcode) { return dst, frameNone }

// rawStream is a raw connection, as its handler sees it and as its receiver.
type rawStream struct {
	conn    *conn
	handler RawHandler
	pipe    *io.PipeReader
	in      *io.PipeWriter

	mu sync.Mutex // one Write at a time
}

// entered implements [receiver].
func (s *rawStream) entered() {}

// started implements [receiver]: the handler starts.
func (s *rawStream) started() {
	s.conn.node.work.Add(1)
	go func() {
		defer s.conn.node.work.Done()
		s.finish(s.run())
	}()
}

// run calls the handler; a panic is an internal error.
func (s *rawStream) run() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	return s.handler(s.conn.Context(), &s.conn.Client, s)
}

// receive implements [receiver]. It blocks until the rate allows payload and the
// handler has read it.
func (s *rawStream) receive(payload []byte, _ bool) {
	c := s.conn
	c.stalled.Store(true)
	if c.pace() {
		s.in.Write(payload) // fails only if nobody will read any more
	}
	c.touch()
	c.stalled.Store(false)
}

// ended implements [receiver].
func (s *rawStream) ended(Reason) {
	s.in.CloseWithError(io.EOF) // the other half is the handler's: closed, it would hide this error
}

// pace waits until the rate limits let one more message through. A byte stream has
// no way to say that a part was refused; a client that is not read has to wait by
// itself. False means that the connection has ended.
func (c *conn) pace() bool {
	for {
		v := c.charge("", time.Now())
		if v.ok {
			return true
		}
		c.node.metrics.limited.WithLabelValues(v.scope, "hold").Inc()
		late := time.NewTimer(v.wait)
		select {
		case <-late.C:
		case <-c.Context().Done():
			late.Stop()
			return false
		}
	}
}

// Read implements [io.Reader].
func (s *rawStream) Read(p []byte) (int, error) {
	n, err := s.pipe.Read(p)
	if err == io.ErrClosedPipe { // the handler has returned
		err = ErrClosed
	}
	return n, err
}

// Write implements [io.Writer].
func (s *rawStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	wire := append(appendHeader(make([]byte, 0, maxHeader+len(p)), frameBinary, false, len(p)), p...)
	for {
		res := c.send(&frame{wire: wire})
		if res == pushClosed {
			return 0, ErrClosed
		}
		if idle := c.out.whenIdle(); idle != nil {
			select {
			case <-idle:
			case <-c.Context().Done():
			}
		}
		if c.isEnding() {
			return 0, ErrClosed
		}
		if res != pushSlow { // else a pong stood in the way of a large message
			return len(p), nil
		}
	}
}

// Close implements [io.Closer].
func (s *rawStream) Close() error {
	s.conn.endWith(ReasonDisconnected, nil, closeFrame(http1000, ""))
	return nil
}

// http1000 is the code of an ordinary close (RFC 6455 section 7.4.1).
const http1000 = 1000

// finish closes the connection for what the handler returned.
func (s *rawStream) finish(err error) {
	s.pipe.CloseWithError(ErrClosed)
	switch {
	case err == nil, errors.Is(err, ErrClosed), errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		s.Close()
	default:
		reason, why := refusalOf(err)
		s.conn.end(reason, why, err)
	}
}
