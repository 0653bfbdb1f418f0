package realtime_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// packer is a client of documents: its messages are texts in the test, MessagePack on
// the wire.
type packer struct {
	phx
	tap net.Conn
}

func dialPacker(t *testing.T, s *realtime.Server, opts ...realtime.PhoenixOption) packer {
	t.Helper()
	p := packer{}
	h := s.Phoenix(append(opts, realtime.MessagePack())...)
	p.phx = phx{dialMount(t, s, h, realtimetest.WithURL("/socket/websocket?vsn=3.0.0"),
		realtimetest.WithConn(func(nc net.Conn) net.Conn { p.tap = nc; return nc })), t}
	return p
}

// say sends one message and reads the answers.
func (p packer) say(text string, want ...string) {
	p.t.Helper()
	tapWrite(p.t, p.tap, clientFrame(0x82, string(realtime.Pack(text))))
	p.want(want...)
}

func (p packer) want(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if got := realtime.Unpack([]byte(p.Recv().Text)); got != text {
			p.t.Errorf("got %s, want %s", got, text)
		}
	}
}

func TestDocumentClientsSpeakMessagePack(t *testing.T) { // document.md section 13, checks 119 to 122
	synctest.Test(t, func(t *testing.T) {
		s, room := phxServer(t)
		var seen []string
		room.Handle("submit", func(ctx context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			seen = append(seen, string(m.Data))
			return nil, s.Publish(ctx, m.Topic, "op", m.Data)
		})
		room.Handle("bytes", func(_ context.Context, _ *realtime.Client, m realtime.Message) (any, error) {
			return realtime.Binary(append(m.Binary, 3)), nil
		})
		c, text := dialPacker(t, s), dialPhoenix(t, s, "vsn=2.0.0")
		c.say(`[null,"9","phoenix","heartbeat",{}]`, `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`)
		c.say(`["1","7","room:1","echo",{}]`, `[null,"7","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
		c.say(phxJoin, phxJoined)
		c.say(`["1","2","room:1","echo",{"a":[1]}]`, phxReply("2", `{"a":[1]}`))
		text.say(phxJoin, phxJoined)

		// undefined, a whole float, a time in milliseconds, bytes: as msgpackr sends them.
		tapWrite(t, c.tap, clientFrame(0x82, "\x95\xa11\xa13\xa6room:1\xa6submit\x85"+
			"\xa8metadata\xd4\x00\x00"+"\xa3csn\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"+"\xa9timestamp\xcb\x42\x78\xbc\xfe\x56\xb3\x40\x00"+
			"\xa8contents\xc4\x02\x01\x02"+"\xa4text\xa4AQI="))
		const op = `{"csn":1,"timestamp":1700000000820,"contents":"\u0041QI=","text":"AQI="}`
		text.want(`[null,null,"room:1","op",` + op + `]`)
		const packed = "\x95\xc0\xc0\xa6room:1\xa2op\x84\xa3csn\x01\xa9timestamp\xcb\x42\x78\xbc\xfe\x56\xb3\x40\x00\xa8contents\xc4\x02\x01\x02\xa4text\xa4AQI="
		if got := c.Recv().Text; got != packed {
			t.Errorf("got % x, want % x", got, packed)
		}
		c.want(phxReply("3", `{}`))
		if len(seen) != 1 || seen[0] != op {
			t.Errorf("the handler saw %v, want %s", seen, op)
		}

		tapWrite(t, c.tap, clientFrame(0x82, "\x95\xa11\xa14\xa6room:1\xa5bytes\xc4\x02\x01\x02"))
		if got := c.Recv().Text; !strings.HasSuffix(got, "\xa8response\xc4\x03\x01\x02\x03") {
			t.Errorf("got % x, want a reply of three bytes", got)
		}
		c.say(`["1","6","room:1","phx_leave",{}]`, phxReply("6", `{}`), phxClosed)
	})
}

func TestMessagePackIsAnOption(t *testing.T) { // phoenix.md section 1.3
	s := newServer(t)
	for path, h := range map[string]http.Handler{
		"/socket/websocket?vsn=3.0.0": s.Phoenix(realtime.LongPoll()),
		"/socket/websocket?vsn=3.1.0": s.Phoenix(realtime.MessagePack()),
	} {
		if answer := realtimetest.Refused(t, h, realtimetest.WithURL(path)); answer.StatusCode != 403 {
			t.Errorf("%s: HTTP %d, want 403", path, answer.StatusCode)
		}
	}
	p := newPoller(t, s.Phoenix(realtime.MessagePack(), realtime.LongPoll()))
	p.url = "/socket/longpoll?vsn=3.0.0" // whose messages could not be polled
	if a := p.poll(); a.Status != 403 || a.Token != nil {
		t.Errorf("%s: got %+v, want 403", p.url, a)
	}
	synctest.Test(t, func(t *testing.T) { // the others are served as ever
		s, _ := phxServer(t)
		dialPhoenix(t, s, "vsn=2.0.0", realtime.MessagePack()).say(phxJoin, phxJoined)
	})
}

func TestWhatIsNoMessagePackEndsTheConnection(t *testing.T) { // document.md check 123
	synctest.Test(t, func(t *testing.T) {
		s, _ := phxServer(t)
		witness := dialPacker(t, s)
		witness.say(phxJoin, phxJoined)
		for name, frame := range map[string][]byte{
			"text":         clientFrame(0x81, phxJoin),
			"not an array": clientFrame(0x82, "\x80"),
			"an extension": clientFrame(0x82, "\x95\xc0\xc0\xa6room:1\xa4echo\xd6\xff\x00\x00\x00\x00"),
			"V2's frame":   clientFrame(0x82, "\x00\x01\x02\x06\x03"+"311room:1bin\x01\x02"),
			"cut off":      clientFrame(0x82, string(realtime.Pack(phxJoin)[:20])),
		} {
			c := dialPacker(t, s)
			c.say(phxJoin, phxJoined)
			tapWrite(t, c.tap, frame)
			if told := c.WantClosed(""); told.Code != 1011 {
				t.Errorf("%s: closed with %d, want 1011", name, told.Code)
			}
		}
		witness.say(`["1","2","room:1","echo",{"a":1}]`, phxReply("2", `{"a":1}`))
	})
}
