package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The checks of the connection's life. docs/protocols.md says what each number is
// about. Those that measure time do not run beside others.

// idle is the time of silence that these checks allow a client.
const idle = 200 * time.Millisecond

// wantIdleEnd waits for the end of a client that fell silent at since.
func wantIdleEnd(t *testing.T, p *peer, since time.Time) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case _, more := <-p.frames:
			if more {
				continue
			}
			if took := time.Since(since); took < idle || took > 2*idle {
				t.Errorf("closed after %v, want %v to %v", took, idle, 2*idle)
			}
			if code := websocket.CloseStatus(p.err); code < 1001 {
				t.Errorf("closed with %d (%v), want a code other than 1000", code, p.err)
			}
			return
		case <-late:
			t.Fatal("still open")
		}
	}
}

func TestCheck112_SilentClientIsClosed(t *testing.T) {
	s := start(t, "-idle-timeout", idle.String())
	opened := time.Now()
	p := s.v2(t)
	wantIdleEnd(t, p, opened)
}

func TestCheck113_HeartbeatsKeepAConnectionOpen(t *testing.T) {
	p := start(t, "-idle-timeout", idle.String()).v2(t)
	beat := time.NewTicker(idle / 2)
	defer beat.Stop()
	for range 10 {
		p.send(beatV2)
		p.want(beatenV2)
		<-beat.C
	}
	p.send(beatV2)
	p.want(beatenV2)
}

func TestCheck114_WhatTheServerSendsIsNoSignOfLife(t *testing.T) {
	s := start(t, "-idle-timeout", idle.String())
	p := s.v2(t)
	silent := time.Now() // from here on but for the join
	p.join("1")
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-done:
				return
			}
			resp, err := http.Post(s.base+"/admin/broadcast?topic=room:1&event=shout", "application/json", strings.NewReader(`{"m":1}`))
			if err != nil {
				return // the test is over
			}
			resp.Body.Close()
		}
	}()
	p.want(shouted)
	wantIdleEnd(t, p, silent)
}

func TestCheck115_ForcedDisconnectClosesEverySocketWithTheID(t *testing.T) {
	s := check(t)
	one, two := s.socket(t, "user_id=1001&vsn=2.0.0").join("1"), s.socket(t, "user_id=1001&vsn=1.0.0")
	other := s.joined(t)
	s.post(t, "/admin/disconnect?id=user_sockets:1001", "")
	one.wantClosed(1001)
	two.wantClosed(1001)
	other.send(event("1", "2", "echo", `{"a":1}`))
	other.only(ok("1", "2", `{"a":1}`))
}

func TestCheck116_ShutdownClosesAllAndLetsNobodyIn(t *testing.T) {
	s := check(t)
	joined, idle := s.joined(t), s.v1(t)
	begun := time.Now()
	s.post(t, "/admin/drain", "")
	if took := time.Since(begun); took > drainTime {
		t.Errorf("the drain took %v, want at most %v", took, drainTime)
	}
	joined.wantClosed(1012)
	idle.wantClosed(1012)
	if status, _ := s.handshake(t, "vsn=2.0.0"); status != http.StatusServiceUnavailable {
		t.Errorf("a new handshake got %d, want 503", status)
	}
}

func TestCheck117_CloseOfTheClientIsAnsweredAtOnce(t *testing.T) {
	p := dialRaw(t, check(t))
	p.write(0x1, event("1", "1", "phx_join", `{}`))
	if opcode, payload := p.next(); opcode != 0x1 || !(frame{bytes: payload}).is(ok("1", "1", `{}`)) {
		t.Fatalf("got opcode %d %s, want the reply", opcode, payload)
	}
	sent := time.Now()
	p.write(0x8, "\x03\xe8")
	opcode, payload := p.next()
	if opcode != 0x8 || string(payload) != "\x03\xe8" {
		t.Errorf("got opcode %d % x, want close 1000", opcode, payload)
	}
	if took := time.Since(sent); took > time.Second {
		t.Errorf("the answer took %v", took)
	}
	p.wantEnd()
}

// compressing are options of a client that offers permessage-deflate and uses it
// for the shortest of messages.
var compressing = &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1}

// echoes sends text and bytes that would compress, and compares what comes back.
func echoes(t *testing.T, p *peer) {
	t.Helper()
	long := strings.Repeat("again and ", 500)
	p.join("3")
	p.send(event("3", "2", "echo", `{"long":"`+long+`"}`))
	p.only(ok("3", "2", `{"long":"`+long+`"}`))
	p.write(websocket.MessageBinary, append(unhex("00 01 02 06 03 33 31 31 72 6f 6f 6d 3a 31 62 69 6e"), long...))
	p.want("00 01 06 07 33 72 6f 6f 6d 3a 31 62 69 6e 70 75 73 68 00 01")
	got, head := p.next(), string(unhex("01 01 02 06 02 33 31 31 72 6f 6f 6d 3a 31 6f 6b"))
	if !got.binary || string(got.bytes) != head+long+"\x03\x04" {
		t.Errorf("got %v, want the bytes and two more", got)
	}
	p.nothing()
}

func TestCheck118_CompressionIsNotNegotiatedWhenItIsOff(t *testing.T) {
	p := check(t).dial(t, "/socket/websocket?vsn=2.0.0", compressing)
	if got := p.header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("negotiated %q, want nothing", got)
	}
	echoes(t, p)
}

func TestCheck119_CompressionWorksBothWays(t *testing.T) {
	p := check(t, "-compress").dial(t, "/socket/websocket?vsn=2.0.0", compressing)
	if got := p.header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate") {
		t.Errorf("negotiated %q, want permessage-deflate", got)
	}
	echoes(t, p)
}
