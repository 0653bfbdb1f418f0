package realtime_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// noRate lifts the default limit on messages.
var noRate = realtime.WithRateLimit(realtime.PerConnection(1e9, 1_000_000))

// malformed are texts that envelope.md section 2 calls undecodable.
var malformed = map[string]string{
	"empty":                 ``,
	"not JSON":              `hello`,
	"array":                 `[{"type":"x"}]`,
	"string":                `"x"`,
	"null":                  `null`,
	"no type":               `{"channel":"chat:a"}`,
	"null type":             `{"type":null}`,
	"empty type":            `{"type":""}`,
	"numeric type":          `{"type":1}`,
	"long type":             `{"type":"` + strings.Repeat("a", 129) + `"}`,
	"control character":     `{"type":"a\u0000"}`,
	"C1 control character":  `{"type":"a\u0085"}`,
	"lone surrogate":        `{"type":"\ud800"}`,
	"empty channel":         `{"channel":"","type":"x"}`,
	"numeric channel":       `{"channel":7,"type":"x"}`,
	"long channel":          `{"channel":"` + strings.Repeat("c", 256) + `","type":"x"}`,
	"surrogate in channel":  `{"channel":"\udc00","type":"x"}`,
	"numeric ref":           `{"type":"x","ref":7}`,
	"long ref":              `{"type":"x","ref":"` + strings.Repeat("r", 65) + `"}`,
	"surrogate in ref":      `{"type":"x","ref":"\ud800"}`,
	"trailing bytes":        `{"type":"x"} {}`,
	"trailing comma":        `{"type":"x",}`,
	"cut off":               `{"type":"x"`,
	"single quotes":         `{'type':'x'}`,
	"nesting of 65":         `{"type":"x","data":` + nested(64) + `}`,
	"last duplicate is bad": `{"type":"x","type":7}`,
	"upper case key":        `{"Type":"x"}`,
}

func nested(levels int) string {
	return strings.Repeat("[", levels) + strings.Repeat("]", levels)
}

// wantInvalid wants the soft answer to something undecodable.
func wantInvalid(t *testing.T, c *realtimetest.Client) {
	t.Helper()
	if m := c.WantError("", "invalid_message"); m.Channel != "global" || m.Type != "error" {
		t.Errorf("got %s, want an error on global", m)
	}
}

func TestMalformedMessagesAreAnsweredAndTheFifthInARowCloses(t *testing.T) { // envelope.md section 2, S1.2
	for name, text := range malformed {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Topic("chat:{room}")
				c := dial(t, s)
				for range 5 {
					c.Send(text)
				}
				for range 5 {
					wantInvalid(t, c)
				}
				if told := c.WantClosed(realtime.ReasonInvalidMessage); told.Code != 4005 || told.Retry != realtime.RetryNever {
					t.Errorf("closing is %+v, want 4005 and never", told)
				}
			})
		})
	}
}

func TestADecodableMessageEndsTheRow(t *testing.T) { // envelope.md section 2
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, newServer(t))
		for range 3 {
			for range 4 {
				c.Send("nonsense")
				wantInvalid(t, c)
			}
			c.WantError(c.Push("global", "nobody handles this", nil), "unknown_event")
		}
		for range 5 {
			c.Send("nonsense")
		}
		c.WantClosed(realtime.ReasonInvalidMessage)
	})
}

func TestInvalidMessagesMayCloseAtTheFirst(t *testing.T) { // S1.2
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, newServer(t, realtime.WithInvalidMessages(1)))
		c.Send("nonsense")
		c.WantClosed(realtime.ReasonInvalidMessage)
	})
}

func TestTolerableMessagesAreHandled(t *testing.T) { // envelope.md section 2
	for name, c := range map[string]struct{ text, response string }{
		"unknown fields":         {`{"channel":"chat:a","type":"echo","data":1,"ref":"r","new":[{}]}`, `1`},
		"no data":                {`{"channel":"chat:a","type":"echo","ref":"r"}`, `null`},
		"last duplicate counts":  {`{"channel":"nope","channel":"chat:a","type":7,"type":"echo","data":1,"data":2,"ref":"x","ref":"r"}`, `2`},
		"nesting of 64":          {`{"channel":"chat:a","type":"echo","ref":"r","data":` + nested(63) + `}`, nested(63)},
		"white space around":     {" \n{\"channel\":\"chat:a\",\"type\":\"echo\",\"ref\":\"r\"}\t\n", `null`},
		"escapes in keys":        {`{"\u0063hannel":"chat:a","type":"ec\u0068o","ref":"r","data":1}`, `1`},
		"data is not re-encoded": {`{"channel":"chat:a","type":"echo","ref":"r","data":{"b": 1.50 ,"a":"\u0041","a":"\/"}}`, `{"b": 1.50 ,"a":"\u0041","a":"\/"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Topic("chat:{room}").Handle("echo", echo)
				client := dial(t, s)
				client.Join("chat:a")
				client.Send(c.text)
				m := client.WantReply("r", "ok", nil)
				if want := `"response":` + c.response + `}`; !strings.Contains(m.Text, want) {
					t.Errorf("got %s, want %s in it, byte for byte", m, want)
				}
			})
		})
	}
}

func TestNullAndEmptyAreAbsent(t *testing.T) { // envelope.md section 2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("global").Handle("echo", echo)
		c := dial(t, s)
		c.Send(`{"channel":null,"type":"echo","ref":"a"}`)
		c.WantReply("a", "ok", nil)
		for _, ref := range []string{`""`, `null`} {
			c.Send(`{"type":"echo","ref":` + ref + `}`)
		}
		c.WantNothing()
	})
}

func TestTheServerAlwaysWritesChannelTypeAndData(t *testing.T) { // envelope.md section 2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("global")
		c := dial(t, s)
		publish(t, s, "global", "nothing", nil)
		if got, want := c.Recv().Text, `{"channel":"global","type":"nothing","data":null}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// wireTap dials with the connection at hand, to write frames that no library
// would.
func wireTap(t *testing.T, s *realtime.Server, opts ...realtimetest.Option) (*realtimetest.Client, net.Conn) {
	t.Helper()
	var tap net.Conn
	c := dial(t, s, append(opts, realtimetest.WithConn(func(nc net.Conn) net.Conn { tap = nc; return nc }))...)
	return c, tap
}

// clientFrame is a frame with the mask 0, which changes nothing.
func clientFrame(first byte, payload string) []byte {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

func tapWrite(t *testing.T, tap net.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := tap.Write(f); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("write: %v", err) // the server may have ended it
			return
		}
	}
}

func TestFragmentsAreJoined(t *testing.T) { // envelope.md section 2, RFC 6455 section 5.4
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("global").Handle("echo", echo)
		c, tap := wireTap(t, s)
		tapWrite(t, tap, clientFrame(0x01, `{"type":"echo",`), clientFrame(0x89, "ping between"),
			clientFrame(0x00, `"ref":"r",`), clientFrame(0x80, `"data":1}`))
		c.WantReply("r", "ok", 1)
	})
}

func TestBadFramesEndTheConnection(t *testing.T) { // envelope.md sections 2 and 6
	big := strings.Repeat("a", 40<<10)
	for name, c := range map[string]struct {
		frames [][]byte
		want   realtime.Reason
	}{
		"not masked":                   {[][]byte{{0x81, 2, '{', '}'}}, realtime.ReasonProtocolError},
		"reserved opcode":              {[][]byte{clientFrame(0x83, "x")}, realtime.ReasonProtocolError},
		"reserved bit":                 {[][]byte{clientFrame(0xc1, "x")}, realtime.ReasonProtocolError},
		"continuation of nothing":      {[][]byte{clientFrame(0x80, "x")}, realtime.ReasonProtocolError},
		"new message inside another":   {[][]byte{clientFrame(0x01, "x"), clientFrame(0x81, "x")}, realtime.ReasonProtocolError},
		"fragmented ping":              {[][]byte{clientFrame(0x09, "x")}, realtime.ReasonProtocolError},
		"long ping":                    {[][]byte{clientFrame(0x89, strings.Repeat("p", 126))}, realtime.ReasonProtocolError},
		"close frame of one byte":      {[][]byte{clientFrame(0x88, "x")}, realtime.ReasonProtocolError},
		"close code that nobody sends": {[][]byte{clientFrame(0x88, "\x03\xed")}, realtime.ReasonProtocolError}, // 1005
		"oversize":                     {[][]byte{clientFrame(0x81, big+big)}, realtime.ReasonMessageTooLarge},
		"oversize in fragments":        {[][]byte{clientFrame(0x01, big), clientFrame(0x80, big)}, realtime.ReasonMessageTooLarge},
		"length of 2^62":               {[][]byte{{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, realtime.ReasonMessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, tap := wireTap(t, newServer(t))
				client.Connected()
				go tapWrite(t, tap, c.frames...)
				client.WantClosed(c.want)
			})
		})
	}
}

func TestInvalidUTF8AndBinaryAreInvalidMessages(t *testing.T) { // envelope.md section 2
	for name, frame := range map[string][]byte{
		"invalid UTF-8": clientFrame(0x81, "{\"type\":\"\xff\"}"),
		"binary":        clientFrame(0x82, `{"type":"echo"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, tap := wireTap(t, newServer(t))
				for range 5 {
					tapWrite(t, tap, frame)
					wantInvalid(t, c)
				}
				c.WantClosed(realtime.ReasonInvalidMessage)
			})
		})
	}
}

func TestTheSizeOfAMessageIsWhatItDecompressesTo(t *testing.T) { // envelope.md section 2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithCompression())
		s.Topic("global").Handle("echo", echo)
		c := dial(t, s, realtimetest.WithCompression())
		data := strings.Repeat("a", 60<<10)
		c.WantReply(c.Push("global", "echo", data), "ok", data)
		c.Push("global", "echo", strings.Repeat("a", 8<<20))
		c.WantClosed(realtime.ReasonMessageTooLarge)
	})
}

func TestMessageBytesIsTheLargestMessage(t *testing.T) { // envelope.md section 2
	for over, want := range map[int]realtime.Reason{0: "", 1: realtime.ReasonMessageTooLarge} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, realtime.WithMessageBytes(1000))
			s.Topic("global").Handle("echo", echo)
			c := dial(t, s)
			head, tail := `{"type":"echo","ref":"r","data":"`, `"}`
			c.Send(head + strings.Repeat("a", 1000-len(head)-len(tail)+over) + tail)
			if want == "" {
				c.WantReply("r", "ok", nil)
				return
			}
			if told := c.WantClosed(want); told.Code != 1009 || told.Retry != realtime.RetryNever {
				t.Errorf("closing is %+v, want 1009 and never", told)
			}
		})
	}
}

func TestUnknownChannelsAndEventsAreErrors(t *testing.T) { // envelope.md section 3, S2.7
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}")
		c := dial(t, s)
		for _, channel := range []string{"nope", "chat", "chat:", "chat:a:b", "Chat:a"} {
			m := c.WantError(c.Push(channel, "subscribe", nil), "unknown_channel")
			if m.Type != "subscription_error" || m.Channel != "global" {
				t.Errorf("subscribe %q: got %s, want a subscription_error on global", channel, m)
			}
		}
		for _, event := range []string{"message", "unsubscribe", "history"} {
			m := c.WantError(c.Push("chat:a", event, nil), "not_subscribed")
			if m.Type != "error" || m.Channel != "chat:a" {
				t.Errorf("%s: got %s, want an error on the channel", event, m)
			}
		}
		c.Join("chat:a")
		c.WantError(c.Push("chat:a", "message", nil), "unknown_event")
		c.WantError(c.Push("chat:a", "history", nil), "no_history")
		c.Send(`{"channel":"chat:a","type":"message"}`)
		c.WantError("", "unknown_event") // without a ref only an error is sent
	})
}

func TestTenThousandJoins(t *testing.T) { // envelope.md section 5: limits.channels
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noRate)
		s.Topic("chat:{room}")
		c := dial(t, s)
		joined, refused := 0, 0
		for i := range 10_000 { // and reads the answers, or it were a slow consumer
			c.Push(fmt.Sprintf("chat:%d", i), "subscribe", nil)
			switch m := c.Recv(); {
			case m.Type == "subscription_success":
				joined++
			case m.Type == "subscription_error" && strings.Contains(m.Text, `"too_many_channels"`):
				refused++
			default:
				t.Fatalf("got %s, want success or too_many_channels", m)
			}
		}
		if joined != 128 || refused != 10_000-128 {
			t.Errorf("%d joined and %d were refused, want 128 and the rest", joined, refused)
		}
	})
}

func TestAFloodIsAnsweredTenTimesAndThenClosed(t *testing.T) { // envelope.md section 6, S1.2
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(1, 5)))
		s.Topic("global").Handle("echo", echo)
		c := dial(t, s)
		for range 3 {
			c.WantReply(c.Push("global", "echo", nil), "ok", nil)
		}
		c.Send(`{"type":"ping","ref":"p"}`) // every message counts
		if m := c.Recv(); m.Type != "pong" {
			t.Fatalf("got %s, want pong", m)
		}
		c.Send("not even a message")
		wantInvalid(t, c)
		for range 10 {
			m := c.WantError(c.Push("global", "echo", nil), "rate_limited")
			var e struct {
				RetryAfter int64  `json:"retry_after_ms"`
				Retry      string `json:"retry"`
			}
			if err := json.Unmarshal(m.Data, &e); err != nil || e.RetryAfter != 1000 || e.Retry != "backoff" {
				t.Errorf("got %s, want backoff after 1000 ms", m)
			}
		}
		c.Push("global", "echo", nil)
		told := c.WantClosed(realtime.ReasonRateLimited)
		if told.Code != 4004 || told.Retry != realtime.RetryBackoff || told.MinMS != 2000 || told.Jitter != 8000 {
			t.Errorf("closing is %+v, want 4004, backoff, 2000 and 8000 ms", told)
		}
	})
}

func TestSoftAnswersComeBackAfterTenSeconds(t *testing.T) { // envelope.md section 6
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(0.001, 1)))
		c := dial(t, s)
		c.Push("global", "x", nil)
		c.Recv()
		for range 3 {
			for range 10 {
				c.WantError(c.Push("global", "x", nil), "rate_limited")
			}
			time.Sleep(10 * time.Second)
		}
		for range 10 {
			c.WantError(c.Push("global", "x", nil), "rate_limited")
		}
		c.Push("global", "x", nil)
		c.WantClosed(realtime.ReasonRateLimited)
	})
}

func TestARateLimitedSubscribeIsASubscriptionError(t *testing.T) { // envelope.md section 3
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(0.1, 1)))
		s.Topic("chat:{room}")
		c := dial(t, s)
		c.Join("chat:a")
		if m := c.WantError(c.Push("chat:b", "subscribe", nil), "rate_limited"); m.Type != "subscription_error" {
			t.Errorf("got %s, want a subscription_error", m)
		}
	})
}

func TestTooManyControlFramesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tap := wireTap(t, newServer(t))
		c.Connected()
		for range 60 {
			tapWrite(t, tap, clientFrame(0x89, "flood"))
		}
		c.WantClosed(realtime.ReasonRateLimited)
	})
}

func TestABadMessageOfOneClientIsNoneOfTheOthers(t *testing.T) { // envelope.md section 9
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Topic("chat:{room}").Handle("message", func(ctx context.Context, c *realtime.Client, m realtime.Message) (any, error) {
			return nil, s.Publish(ctx, m.Topic, "message", m.Data)
		})
		good, bad := dial(t, s), dial(t, s)
		good.Join("chat:a")
		bad.Join("chat:a")
		for range 5 {
			bad.Send("nonsense")
		}
		bad.WantClosed(realtime.ReasonInvalidMessage)
		good.WantReply(good.Push("chat:a", "message", 1), "ok", nil)
		good.WantPush("chat:a", "message", 1)
	})
}

func TestAnAnswerOverTheRateIsNotAnsweredByTheAsksId(t *testing.T) { // envelope.md section 3: answer has none
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(0.1, 1)))
		c := dial(t, s)
		c.Send(`{"type":"ping"}`)
		c.Recv()
		c.Send(`{"type":"answer","ref":"an id of the server"}`)
		c.WantError("", "rate_limited")
	})
}
