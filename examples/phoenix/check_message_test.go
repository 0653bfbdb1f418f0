package main

import (
	"fmt"
	"slices"
	"testing"
)

// The checks of messages, leaves and crashes. docs/protocols.md says what each
// number is about.

func TestCheck061_ReplyHasWhatWasSent(t *testing.T) {
	p := check(t).joined(t)
	p.send(`["1","2","room:1","echo",{"a":[1,{"b":null}]}]`)
	p.only(`["1","2","room:1","phx_reply",{"status":"ok","response":{"a":[1,{"b":null}]}}]`)
}

// asks sends one event to room:1 and compares all that comes.
func asks(t *testing.T, name string, want ...string) *peer {
	t.Helper()
	p := check(t).joined(t)
	p.send(event("1", "2", name, `{}`))
	p.only(want...)
	return p
}

func TestCheck062_ReplyOfNothingIsAnEmptyObject(t *testing.T) {
	asks(t, "ok", ok("1", "2", `{}`))
}

func TestCheck063_ReplyMayBeAnError(t *testing.T) {
	p := asks(t, "fail", reply("1", "2", "error", `{"why":"because"}`))
	p.send(event("1", "3", "fail_bare", `{}`))
	p.only(reply("1", "3", "error", `{}`))
}

func TestCheck064_ReplyMayHaveAStatusOfItsOwn(t *testing.T) {
	asks(t, "custom", reply("1", "2", "ignored", `{"n":1}`))
}

func TestCheck065_HandlerMayStaySilent(t *testing.T) {
	asks(t, "silent")
}

func TestCheck066_LateReplyIsOvertaken(t *testing.T) {
	p := check(t).joined(t)
	p.send(event("1", "2", "later", `{}`), event("1", "3", "ok", `{}`))
	p.only(ok("1", "3", `{}`), ok("1", "2", `{"late":true}`))
}

func TestCheck067_PushesOfAHandlerComeBeforeItsReply(t *testing.T) {
	asks(t, "twice", `["1",null,"room:1","one",{}]`, `["1",null,"room:1","two",{}]`, ok("1", "2", `{}`))
}

func TestCheck068_TopicThatWasNeverJoinedIsUnmatched(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("1", "2", "echo", `{}`))
	p.only(unmatched("2", "room:1"))
}

func TestCheck069_TopicThatAnotherSocketJoinedIsUnmatched(t *testing.T) {
	s := check(t)
	other, p := s.joined(t), s.v2(t)
	p.send(event("1", "2", "echo", `{}`))
	p.only(unmatched("2", "room:1"))
	other.nothing()
}

func TestCheck070_PipelinedMessagesAreAnsweredInOrder(t *testing.T) {
	p := check(t).joined(t)
	var want []string
	for n := range 200 {
		ref, payload := fmt.Sprint("r", n), fmt.Sprintf(`{"n":%d}`, n)
		p.send(event("1", ref, "echo", payload))
		want = append(want, ok("1", ref, payload))
	}
	p.only(want...)
}

func TestCheck071_ChannelsDoNotWaitForEachOther(t *testing.T) {
	p := check(t).joined(t)
	p.send(`["7","7","room:2","phx_join",{}]`)
	p.want(`["7","7","room:2","phx_reply",{"status":"ok","response":{}}]`)
	p.send(event("1", "8", "sleep", `{}`), `["7","9","room:2","ok",{}]`)
	p.only(`["7","9","room:2","phx_reply",{"status":"ok","response":{}}]`)
	p.only(ok("1", "8", `{}`))
}

// left returns a socket that joined room:1 and left it.
func left(t *testing.T, s *site) *peer {
	t.Helper()
	p := s.joined(t)
	p.send(`["1","2","room:1","phx_leave",{}]`)
	p.want(`["1","2","room:1","phx_reply",{"status":"ok","response":{}}]`, `["1","1","room:1","phx_close",{}]`)
	return p
}

func TestCheck072_LeaveIsAnsweredThenTheChannelCloses(t *testing.T) {
	left(t, check(t)).nothing()
}

func TestCheck073_TopicThatWasLeftIsUnmatched(t *testing.T) {
	p := left(t, check(t))
	p.send(event("1", "3", "echo", `{}`))
	p.only(unmatched("3", "room:1"))
}

func TestCheck074_SecondLeaveIsAnsweredAndClosesNothing(t *testing.T) {
	p := left(t, check(t))
	p.send(event("1", "4", "phx_leave", `{}`))
	p.only(ok("1", "4", `{}`))
}

func TestCheck075_BroadcastDoesNotReachWhoHasLeft(t *testing.T) {
	s := check(t)
	p, other := left(t, s), s.joined(t)
	other.send(event("1", "2", "shout", `{"m":1}`))
	other.only(`[null,null,"room:1","shout",{"m":1}]`, ok("1", "2", `{}`))
	p.nothing()
}

func TestCheck076_TopicThatWasLeftMayBeJoinedAgain(t *testing.T) {
	p := left(t, check(t))
	p.join("5")
	p.nothing()
}

func TestCheck077_LeaveOfWhatWasNeverJoinedIsAnswered(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("6", "7", "phx_leave", `{}`))
	p.only(ok("6", "7", `{}`))
}

func TestCheck078_TerminateHookMayPush(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("1", "1", "phx_join", `{"bye":true}`))
	p.want(ok("1", "1", `{}`))
	p.send(event("1", "2", "phx_leave", `{}`))
	frames := p.gather(2 * silence)
	bye := slices.IndexFunc(frames, func(f frame) bool {
		return f.is(`["1",null,"room:1","you_left",{"message":"bye!"}]`)
	})
	if bye < 0 {
		t.Fatalf("got %v, want you_left among it", frames)
	}
	rest := slices.Delete(slices.Clone(frames), bye, bye+1)
	if len(rest) != 2 || !rest[0].is(ok("1", "2", `{}`)) || !rest[1].is(closed("1")) {
		t.Errorf("got %v, want the reply and phx_close beside you_left", frames)
	}
}

func TestCheck079_StopClosesTheChannel(t *testing.T) {
	asks(t, "stop", `["1","1","room:1","phx_close",{}]`)
}

func TestCheck080_StopMayReplyFirst(t *testing.T) {
	asks(t, "stop_reply", ok("1", "2", `{"bye":true}`), closed("1"))
}

func TestCheck081_AbnormalStopMayReplyFirst(t *testing.T) {
	asks(t, "stop_bad", reply("1", "2", "error", `{}`), crashed("1"))
}

func TestCheck082_CrashEndsTheChannelWithoutAReply(t *testing.T) {
	asks(t, "boom", `["1","1","room:1","phx_error",{"reason":"channel_crash"}]`)
}

func TestCheck083_CrashedTopicIsUnmatched(t *testing.T) {
	p := asks(t, "boom", crashed("1"))
	p.send(event("1", "3", "echo", `{}`))
	p.only(unmatched("3", "room:1"))
}

func TestCheck084_CrashEndsThatChannelOnly(t *testing.T) {
	p := check(t).joined(t)
	p.send(`["7","7","room:2","phx_join",{}]`)
	p.want(`["7","7","room:2","phx_reply",{"status":"ok","response":{}}]`)
	p.send(event("1", "2", "boom", `{}`))
	p.only(crashed("1"))
	p.join("3")
	p.send(event("3", "4", "echo", `{"a":1}`))
	p.only(ok("3", "4", `{"a":1}`))
	p.send(`["7","8","room:2","echo",{"b":2}]`)
	p.only(`["7","8","room:2","phx_reply",{"status":"ok","response":{"b":2}}]`)
}

func TestCheck085_VersionOneIsToldWhichJoinCrashed(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}`)
	p.want(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
	p.send(`{"topic":"room:1","event":"boom","payload":{},"ref":"2","join_ref":"1"}`)
	p.only(`{"topic":"room:1","event":"phx_error","ref":"1","payload":{"reason":"channel_crash"}}`)
}

func TestCheck086_VersionOneWithoutAJoinRefIsClosedWithoutARef(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`)
	p.want(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
	p.send(`{"topic":"room:1","event":"phx_leave","payload":{},"ref":"2"}`)
	p.only(`{"topic":"room:1","event":"phx_reply","ref":"2","payload":{"status":"ok","response":{}}}`,
		`{"topic":"room:1","event":"phx_close","ref":null,"payload":{}}`)
}

func TestCheck087_ChannelsEndWithTheirConnection(t *testing.T) {
	s := check(t)
	watcher, gone := s.v2(t), s.joined(t)
	appear(t, watcher, "w", "")
	before := appear(t, gone, "5", "alice")
	watcher.wantDiff(`{"alice":1}`, `{}`)
	gone.cut()
	leaves := watcher.wantDiff(`{}`, `{"alice":1}`).leaves
	if got, want := leaves.ref(t, "alice"), before.ref(t, "alice"); got != want {
		t.Errorf("left with phx_ref %v, want %v", got, want)
	}
	s.log.wait(t, "msg=left", "topic=room:1", "reason=connection_lost")
	var now state
	s.get(t, "/admin/state", &now)
	if now.Members["room:1"] != 0 || now.Members["pres:1"] != 1 || now.Channels != 1 {
		t.Errorf("state is %+v, want the watcher alone", now)
	}
}
