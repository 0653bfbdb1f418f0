package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The checks of heartbeats, decoding and joins. docs/protocols.md says what each
// number is about.

func TestCheck026_HeartbeatNeedsNoJoin(t *testing.T) {
	p := check(t).v2(t)
	p.send(beatV2)
	p.only(beatenV2)
}

func TestCheck027_HeartbeatOfVersionOneHasNoJoinRef(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}`)
	p.only(`{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"5"}`)
}

func TestCheck028_HeartbeatIsAnsweredWithoutAJoinRef(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["1","9","phoenix","heartbeat",{}]`)
	p.only(beatenV2)
}

// Not beside others: it measures.
func TestCheck029_SleepingHandlerDelaysNoHeartbeat(t *testing.T) {
	p := start(t).joined(t)
	sent := time.Now()
	p.send(event("1", "2", "sleep", `{}`), beatV2)
	p.want(beatenV2)
	if took := time.Since(sent); took >= 200*time.Millisecond {
		t.Errorf("the heartbeat took %v, want less than 200ms", took)
	}
	p.want(ok("1", "2", `{}`))
	if took := time.Since(sent); took < 1900*time.Millisecond || took > 2500*time.Millisecond {
		t.Errorf("sleep took %v, want about 2s", took)
	}
	p.nothing()
}

func TestCheck030_TextThatIsNoJSONCloses(t *testing.T) {
	p := check(t).v2(t)
	p.send(`not json`)
	p.wantClosed(1011)
}

func TestCheck031_OtherShapesCloseVersionTwo(t *testing.T) {
	s := check(t)
	for _, text := range []string{`{"topic":"a"}`, `["1","2","t"]`} {
		p := s.v2(t)
		p.send(text)
		p.wantClosed(1011)
	}
}

func TestCheck032_ArrayClosesVersionOne(t *testing.T) {
	p := check(t).v1(t)
	p.send(`[null,null,"t","e",{}]`)
	p.wantClosed(1011)
}

func TestCheck033_MissingKeyClosesVersionOne(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"phoenix","event":"heartbeat","payload":{}}`)
	p.wantClosed(1011)
}

func TestCheck034_UnknownKindOfBinaryFrameCloses(t *testing.T) {
	p := check(t).v2(t)
	p.sendBytes("ff 00")
	p.wantClosed(1011)
}

func TestCheck035_InvalidUTF8Closes(t *testing.T) {
	p := check(t).v2(t)
	p.send("[null,\"9\",\"phoenix\",\"heartbeat\",{\"x\":\"\xff\xfe\"}]")
	p.wantClosed(1007)
}

func TestCheck036_MessageOverTheLimitCloses(t *testing.T) {
	p := check(t).v2(t)
	p.send(`[null,"9","phoenix","heartbeat",{"x":"` + strings.Repeat("x", 65<<10) + `"}]`)
	p.wantClosed(1009)
}

func TestCheck037_GarbageOfOneSocketIsItsOwn(t *testing.T) {
	s := check(t)
	bad, good := s.joined(t), s.joined(t)
	bad.send(`garbage`)
	bad.wantClosed(1011)
	good.send(event("1", "2", "echo", `{"a":1}`))
	good.only(ok("1", "2", `{"a":1}`))
}

func TestCheck038_JoinIsAnswered(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["1","1","room:1","phx_join",{}]`)
	p.only(`["1","1","room:1","phx_reply",{"status":"ok","response":{}}]`)
}

func TestCheck039_JoinRefIsTheOneOfTheJoinNotItsRef(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["11","1","room:1","phx_join",{}]`)
	p.only(ok("11", "1", `{}`))
	p.send(event("11", "2", "twice", `{}`))
	p.only(`["11",null,"room:1","one",{}]`, `["11",null,"room:1","two",{}]`, ok("11", "2", `{}`))
}

func TestCheck040_JoinMayBeAnsweredWithMore(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("1", "1", "phx_join", `{"reply":{"a":1}}`))
	p.only(ok("1", "1", `{"a":1}`))
}

func TestCheck041_PushOfTheJoinFollowsItsReply(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("1", "1", "phx_join", `{"after":true}`))
	p.only(ok("1", "1", `{}`), `["1",null,"room:1","joined",{"status":"connected"}]`)
}

// denied returns a socket whose join was refused.
func denied(t *testing.T) *peer {
	t.Helper()
	p := check(t).v2(t)
	p.send(event("1", "1", "phx_join", `{"deny":"unauthorized"}`))
	p.want(reply("1", "1", "error", `{"reason":"unauthorized"}`))
	return p
}

func TestCheck042_RefusedJoinIsAnsweredAndNothingFollows(t *testing.T) {
	denied(t).nothing()
}

func TestCheck043_RefusedTopicIsNotJoined(t *testing.T) {
	p := denied(t)
	p.send(event("1", "2", "echo", `{}`))
	p.only(unmatched("2", "room:1"))
}

func TestCheck044_RefusedTopicMayBeJoinedLater(t *testing.T) {
	p := denied(t)
	p.send(event("3", "3", "phx_join", `{}`))
	p.only(ok("3", "3", `{}`))
}

func TestCheck045_CrashingJoinIsAnsweredAndEndsNothing(t *testing.T) {
	p := check(t).v2(t)
	p.send(event("1", "1", "phx_join", `{"crash":true}`))
	p.only(reply("1", "1", "error", `{"reason":"join crashed"}`))
	p.join("2")
	p.nothing()
}

func TestCheck046_UnknownTopicIsUnmatched(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["4","4","nope:1","phx_join",{}]`)
	p.only(unmatched("4", "nope:1"))
}

func TestCheck047_FirstPatternThatMatchesWins(t *testing.T) {
	p := check(t).v2(t)
	p.send(`["1","1","food:1","phx_join",{}]`)
	p.only(`["1","1","food:1","phx_reply",{"status":"ok","response":{"chan":"food"}}]`)
	p.send(`["2","2","foo:1","phx_join",{}]`)
	p.only(`["2","2","foo:1","phx_reply",{"status":"ok","response":{"chan":"foo"}}]`)
}

// crowded returns a socket in a hundred rooms.
func crowded(t *testing.T) *peer {
	t.Helper()
	p := check(t).v2(t)
	for n := 1; n <= 100; n++ {
		p.send(fmt.Sprintf(`["%d","%d","room:%d","phx_join",{}]`, n, n, n))
		p.want(fmt.Sprintf(`["%d","%d","room:%d","phx_reply",{"status":"ok","response":{}}]`, n, n, n))
	}
	return p
}

const tooMany = `["a","b","room:101","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]`

func TestCheck048_HundredAndFirstChannelIsOneTooMany(t *testing.T) {
	p := crowded(t)
	p.send(`["a","b","room:101","phx_join",{}]`)
	p.only(tooMany)
}

func TestCheck049_LeavingMakesRoomForAChannel(t *testing.T) {
	p := crowded(t)
	p.send(`["a","b","room:101","phx_join",{}]`)
	p.want(tooMany)
	p.send(event("1", "x", "phx_leave", `{}`))
	p.want(ok("1", "x", `{}`), closed("1"))
	p.send(`["c","d","room:101","phx_join",{}]`)
	p.only(`["c","d","room:101","phx_reply",{"status":"ok","response":{}}]`)
}

func TestCheck050_VersionOneJoinsWithoutAJoinRef(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`)
	p.only(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
}

func TestCheck051_SocketsAreIndependent(t *testing.T) {
	s := check(t)
	one, two := s.joined(t), s.joined(t)
	one.send(event("1", "2", "echo", `{"n":1}`))
	one.only(ok("1", "2", `{"n":1}`))
	two.only()
	two.send(event("1", "2", "echo", `{"n":2}`))
	two.only(ok("1", "2", `{"n":2}`))
	one.only()
}

// joinedTwice returns a socket that joined room:1 with "1" and again with "2".
func joinedTwice(t *testing.T, s *site) *peer {
	t.Helper()
	p := s.joined(t)
	p.send(event("2", "2", "phx_join", `{}`))
	p.want(ok("2", "2", `{}`), closed("1"))
	return p
}

func TestCheck052_SecondJoinIsAnsweredBeforeTheFirstCloses(t *testing.T) {
	joinedTwice(t, check(t)).nothing()
}

func TestCheck053_PushOfTheSecondJoinFollowsTheCloseOfTheFirst(t *testing.T) {
	p := check(t).joined(t)
	p.send(event("2", "2", "phx_join", `{"after":true}`))
	p.only(ok("2", "2", `{}`), closed("1"), `["2",null,"room:1","joined",{"status":"connected"}]`)
}

func TestCheck054_SecondJoinDoublesNoBroadcast(t *testing.T) {
	s := check(t)
	p, other := joinedTwice(t, s), s.joined(t)
	other.send(event("1", "2", "shout", `{"m":1}`))
	p.only(`[null,null,"room:1","shout",{"m":1}]`)
}

func TestCheck055_MessageForTheFirstJoinIsDropped(t *testing.T) {
	p := joinedTwice(t, check(t))
	p.send(event("1", "5", "echo", `{}`))
	p.nothing()
}

func TestCheck056_MessageForTheSecondJoinIsAnswered(t *testing.T) {
	p := joinedTwice(t, check(t))
	p.send(event("2", "6", "echo", `{"x":1}`))
	p.only(ok("2", "6", `{"x":1}`))
}

func TestCheck057_LeaveOfTheFirstJoinIsDropped(t *testing.T) {
	p := joinedTwice(t, check(t))
	p.send(event("1", "7", "phx_leave", `{}`))
	p.nothing()
	p.send(event("2", "8", "ok", `{}`))
	p.only(ok("2", "8", `{}`))
}

func TestCheck058_MessageWithoutAJoinRefIsForTheChannelThatThereIs(t *testing.T) {
	p := check(t).joined(t)
	p.send(`[null,"8","room:1","echo",{"x":1}]`)
	p.only(ok("1", "8", `{"x":1}`))
}

func TestCheck059_VersionOneIsToldWhichJoinIsClosed(t *testing.T) {
	p := check(t).v1(t)
	p.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}`)
	p.want(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
	p.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"2","join_ref":"2"}`)
	p.only(`{"topic":"room:1","event":"phx_reply","ref":"2","payload":{"status":"ok","response":{}}}`,
		`{"topic":"room:1","event":"phx_close","ref":"1","payload":{}}`)
}

func TestCheck060_LeaveWithoutAJoinRefLeaves(t *testing.T) {
	p := check(t).joined(t)
	p.send(`[null,"9","room:1","phx_leave",{}]`)
	p.only(ok("1", "9", `{}`), closed("1"))
}
