package realtime

import (
	"net"
	"testing"
	"time"
)

// counting is a receiver that counts.
type counting struct{ messages int }

func (*counting) entered()               {}
func (*counting) started()               {}
func (r *counting) receive([]byte, bool) { r.messages++ }
func (*counting) ended(Reason)           {}

func TestOnlyTheFirstMessageAfterQuietIsHandledElsewhere(t *testing.T) {
	s := newQuietServer(t)
	near, far := tcpPair(t)
	c := newConn(s.node, s.main.terms, &upgraded{nc: near}, envelopeCodec{}, "/", "")
	messages := new(counting)
	c.to = messages
	say := func() {
		if _, err := far.Write([]byte{0x81, 0x82, 0, 0, 0, 0, '{', '}'}); err != nil {
			t.Fatal(err)
		}
	}
	say()
	if err := c.readLoop(); err != errLone || messages.messages != 0 {
		t.Fatalf("first message: got %v after %d handled, want %v and 0", err, messages.messages, errLone)
	}
	if !c.readSome() || messages.messages != 1 {
		t.Fatalf("first message: %d handled, want 1", messages.messages)
	}
	c.deep.Store(false)       // as serveLone does
	c.lone = int64(time.Hour) // no pause of a slow machine counts as quiet
	say()
	say()
	far.(*net.TCPConn).CloseWrite()
	if err := c.readLoop(); err == errLone || messages.messages != 3 {
		t.Errorf("messages right behind: got %v after %d handled, want the connection's end and 3", err, messages.messages)
	}
	if !c.deep.Load() {
		t.Error("the stack that has grown is not noted")
	}
}
