package realtime_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-58bc6ac1/realtime"
	"github.com/seed-58bc6ac1/realtime/realtimetest"
)

// shell echoes in upper case until it reads "exit".
func shell(_ context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
	p := make([]byte, 64)
	for {
		n, err := stream.Read(p)
		if err != nil {
			return err
		}
		switch text := string(p[:n]); text {
		case "exit":
			return nil
		case "crash":
			panic("shell")
		case "refuse":
			return realtime.ReasonForbidden
		case "fail":
			return errors.New("password is hunter2")
		default:
			if _, err := io.WriteString(stream, strings.ToUpper(text)); err != nil {
				return err
			}
		}
	}
}

func TestARawMountIsAByteStream(t *testing.T) { // S2.11
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := dialMount(t, s, s.Raw(shell), realtimetest.WithProtocols("realtime.raw"))
		if got := c.Protocol(); got != "realtime.raw" {
			t.Errorf("the protocol is %q, want realtime.raw", got)
		}
		for _, text := range []string{"ls", "{not json", "\x1b[A"} {
			c.Send(text)
			if got, want := c.Recv().Text, strings.ToUpper(text); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		c.Send("exit")
		if told := c.WantClosed(""); told.Code != 1000 {
			t.Errorf("closed with %d, want 1000", told.Code)
		}
	})
}

func TestARawHandlersErrorDecidesTheClose(t *testing.T) {
	for text, want := range map[string]realtime.Reason{"crash": realtime.ReasonInternal, "fail": realtime.ReasonInternal, "refuse": realtime.ReasonForbidden} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			session := dial(t, s)
			c := dialMount(t, s, s.Raw(shell))
			c.Send(text)
			c.WantClosed(want)
			session.Push("global", "ping", nil) // a shell's crash leaves sessions alone
			session.Recv()
		})
	}
}

func TestARawClientIsHeldBackWhileNobodyReads(t *testing.T) { // envelope.md section 7
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newServer(t)
		c := dialMount(t, s, s.Raw(func(ctx context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
			<-release
			text := make([]byte, 10)
			if _, err := io.ReadFull(stream, text); err != nil {
				return err
			}
			if _, err := stream.Write(text); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}))
		for range 10 {
			c.Send("x")
		}
		time.Sleep(10 * time.Minute) // longer than the heartbeat
		c.WantNothing()
		close(release)
		if got := c.Recv().Text; got != "xxxxxxxxxx" {
			t.Errorf("got %q, want ten x", got)
		}
	})
}

func TestARawWriterIsHeldBackByASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, stopped := 0, make(chan struct{})
		s := newServer(t)
		c := dialMount(t, s, s.Raw(func(_ context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
			<-stopped
			for range 100 {
				if _, err := io.WriteString(stream, "y"); err != nil {
					return err
				}
				written++
			}
			return nil
		}))
		c.StopReading()
		close(stopped)
		synctest.Wait()
		if written > 0 {
			t.Errorf("%d writes returned while the client reads nothing", written)
		}
		c.Resume()
		for range 100 {
			if got := c.Recv().Text; got != "y" {
				t.Fatalf("got %q, want y", got)
			}
		}
		c.WantClosed("")
	})
}

func TestARawStreamEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 2)
		s := newServer(t)
		c := dialMount(t, s, s.Raw(func(ctx context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
			_, err := stream.Read(make([]byte, 1))
			errs <- err
			_, err = stream.Write([]byte("x"))
			errs <- err
			return err
		}))
		synctest.Wait()
		c.Cut()
		if err := <-errs; err == nil {
			t.Error("Read succeeded after the end")
		}
		if err := <-errs; !errors.Is(err, realtime.ErrClosed) {
			t.Errorf("Write: got %v, want ErrClosed", err)
		}
	})
}

func TestARawMountAuthenticatesInTheHandshake(t *testing.T) { // S2.11
	synctest.Test(t, func(t *testing.T) {
		s := userServer(t)
		h := s.Raw(func(_ context.Context, c *realtime.Client, stream io.ReadWriteCloser) error {
			_, err := io.WriteString(stream, "hello "+c.User())
			return err
		})
		if told := dialMount(t, s, h).WantClosed(realtime.ReasonUnauthenticated); told.Code != 4001 {
			t.Errorf("code %d, want 4001", told.Code)
		}
		c := dialMount(t, s, h, realtimetest.WithToken("u1"))
		if got := c.Recv().Text; got != "hello u1" {
			t.Errorf("got %q, want hello u1", got)
		}
		c.WantClosed("")
		if answer := realtimetest.Refused(t, h, realtimetest.WithProtocols("realtime.v1")); answer.StatusCode != 400 {
			t.Errorf("realtime.v1 on a raw mount: got %d, want 400", answer.StatusCode)
		}
	})
}

func TestASilentRawPeerIsTimedOut(t *testing.T) { // envelope.md section 7
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := dialMount(t, s, s.Raw(shell))
		c.Send("ls")
		c.Recv()
		c.HalfOpen()
		time.Sleep(time.Minute)
		if n := openConnections(t, s); n != 0 {
			t.Errorf("%d connections are left, want none", n)
		}
	})
}

func TestARawClientOverTheRateIsHeldBackAndLosesNothing(t *testing.T) { // S2.11: raw bytes
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, realtime.WithRateLimit(realtime.PerConnection(10, 20)))
		c := dialMount(t, s, s.Raw(func(_ context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
			text := make([]byte, 120)
			if _, err := io.ReadFull(stream, text); err != nil {
				return err
			}
			_, err := stream.Write(text)
			return err
		}))
		start := time.Now()
		want := ""
		for n := range 120 { // a paste, key by key
			key := string(rune('a' + n%26))
			want += key
			c.Send(key)
		}
		time.Sleep(9900 * time.Millisecond)
		c.WantNothing()
		if got := c.Recv().Text; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v, want the 10 s of 100 messages over the burst", took)
		}
		c.WantClosed("")
	})
}

func TestARawStreamThatHasEndedReadsEOF(t *testing.T) { // RawHandler
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 1)
		s := newServer(t)
		c := dialMount(t, s, s.Raw(func(ctx context.Context, _ *realtime.Client, stream io.ReadWriteCloser) error {
			<-ctx.Done()
			synctest.Wait() // the connection has gone
			_, err := stream.Read(make([]byte, 1))
			errs <- err
			return nil
		}))
		synctest.Wait()
		c.Cut()
		if err := <-errs; err != io.EOF {
			t.Errorf("got %v, want io.EOF", err)
		}
	})
}
