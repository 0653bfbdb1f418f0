package main

import "testing"

// The checks of broadcasts and bytes. docs/protocols.md says what each number is
// about.

const shouted = `[null,null,"room:1","shout",{"m":1}]`

func TestCheck088_BroadcastReachesTheSenderBeforeItsReply(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.joined(t)
	a.send(event("1", "2", "shout", `{"m":1}`))
	b.only(shouted)
	a.only(shouted, ok("1", "2", `{}`))
}

func TestCheck089_BroadcastFromLeavesTheSenderOut(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.joined(t)
	a.send(event("1", "2", "shout_from", `{"m":1}`))
	b.only(shouted)
	a.only(ok("1", "2", `{}`))
}

func TestCheck090_BroadcastFromReachesTheSendersOtherSocket(t *testing.T) {
	s := check(t)
	one, two := s.socket(t, "user_id=1&vsn=2.0.0").join("1"), s.socket(t, "user_id=1&vsn=2.0.0").join("1")
	one.send(event("1", "2", "shout_from", `{"m":1}`))
	two.only(shouted)
	one.only(ok("1", "2", `{}`))
}

func TestCheck091_BroadcastReachesBothVersions(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.v1(t)
	b.send(`{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}`)
	b.want(`{"topic":"room:1","event":"phx_reply","ref":"1","payload":{"status":"ok","response":{}}}`)
	a.send(event("1", "2", "shout", `{"m":1}`))
	b.only(`{"topic":"room:1","event":"shout","payload":{"m":1},"ref":null}`)
	a.only(shouted, ok("1", "2", `{}`))
}

func TestCheck092_BroadcastDoesNotReachOtherTopics(t *testing.T) {
	s := check(t)
	a, b, c := s.joined(t), s.joined(t), s.v2(t)
	c.send(`["1","1","room:2","phx_join",{}]`)
	c.want(`["1","1","room:2","phx_reply",{"status":"ok","response":{}}]`)
	for n, name := range []string{"shout", "shout_from", "icpt"} {
		a.send(event("1", string(rune('2'+n)), name, `{"m":1}`))
	}
	b.only(shouted, shouted, `["1",null,"room:1","icpt",{"m":1,"extra":1}]`)
	c.nothing()
}

func TestCheck093_InterceptedBroadcastIsAPushOfEachMember(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.v2(t).join("9")
	a.send(event("1", "2", "icpt", `{"m":1}`))
	a.only(ok("1", "2", `{}`), `["1",null,"room:1","icpt",{"m":1,"extra":1}]`)
	b.only(`["9",null,"room:1","icpt",{"m":1,"extra":1}]`)
}

func TestCheck094_InterceptedBroadcastMayBeSuppressed(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.joined(t)
	a.send(event("1", "2", "mute", `{"m":1}`))
	a.only(ok("1", "2", `{}`))
	b.nothing()
}

func TestCheck095_BroadcastFromOutsideReachesAll(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.v2(t).join("9")
	s.post(t, "/admin/broadcast?topic=room:1&event=shout", `{"m":1}`)
	a.only(shouted)
	b.only(shouted)
}

func TestCheck096_BroadcastToNobodyIsNoError(t *testing.T) {
	check(t).post(t, "/admin/broadcast?topic=room:1&event=shout", `{"m":1}`)
}

func TestCheck097_BytesArePushedAndReplied(t *testing.T) {
	p := check(t).v2(t).join("3")
	p.sendBytes("00 01 02 06 03 33 31 31 72 6f 6f 6d 3a 31 62 69 6e 01 02")
	p.only("00 01 06 07 33 72 6f 6f 6d 3a 31 62 69 6e 70 75 73 68 00 01",
		"01 01 02 06 02 33 31 31 72 6f 6f 6d 3a 31 6f 6b 01 02 03 04")
}

func TestCheck098_BytesAreBroadcast(t *testing.T) {
	s := check(t)
	a, b := s.joined(t), s.v2(t).join("9")
	a.send(event("1", "2", "bin_shout", `{}`))
	a.only("02 06 04 72 6f 6f 6d 3a 31 62 69 6e 62 07", ok("1", "2", `{}`))
	b.only("02 06 04 72 6f 6f 6d 3a 31 62 69 6e 62 07")
}

func TestCheck099_BytesForAnEarlierJoinAreDropped(t *testing.T) {
	p := joinedTwice(t, check(t))
	p.sendBytes("00 01 02 06 03 31 31 31 72 6f 6f 6d 3a 31 62 69 6e 01 02")
	p.nothing()
}

func TestCheck100_BytesForATopicThatIsNotJoinedAreAnsweredInText(t *testing.T) {
	p := check(t).v2(t)
	p.sendBytes("00 01 02 06 03 33 31 31 72 6f 6f 6d 3a 31 62 69 6e 01 02")
	p.only(unmatched("11", "room:1"))
}

func TestCheck101_NoBytesAreBytes(t *testing.T) {
	p := check(t).v2(t).join("3")
	p.sendBytes("00 01 02 06 03 33 31 31 72 6f 6f 6d 3a 31 62 69 6e")
	p.only("00 01 06 07 33 72 6f 6f 6d 3a 31 62 69 6e 70 75 73 68 00 01",
		"01 01 02 06 02 33 31 31 72 6f 6f 6d 3a 31 6f 6b 03 04")
}
