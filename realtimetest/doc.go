// Package realtimetest helps to test programs that use realtime: connections in
// memory, in the words of Phoenix's channel tests, with faults on demand.
//
//	func TestChatReachesTheOthers(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			rt := realtimetest.NewServer(t, realtime.Anonymous())
//			declare(rt) // the application's topics
//			a, b := realtimetest.Dial(t, rt), realtimetest.Dial(t, rt)
//			a.Join("chat:lobby")
//			b.Join("chat:lobby")
//			a.WantReply(a.Push("chat:lobby", "message", "hi"), "ok", nil)
//			b.WantPush("chat:lobby", "message", "hi")
//		})
//	}
//
// Nothing here needs a port or a network, so a test may run in a
// [testing/synctest] bubble, where the clock moves only when everyone waits: a
// heartbeat's minute takes no time, and a goroutine that is left behind fails
// the test. Everything but [Client.WantNothing] works outside of one, too.
//
// The connection is a [net.Pipe], which has no buffer: a client that stops
// reading stalls the server's next write, where a socket would take some hundred
// kilobytes first. What the client sends is buffered without a bound.
package realtimetest
