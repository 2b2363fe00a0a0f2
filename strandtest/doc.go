// Package strandtest is a test kit for protocols and transports. It needs no
// sockets, no sleeping and nothing outside the standard library, and all of it
// works in a testing/synctest bubble.
//
// For one protocol by itself there is [Transport], a scripted fake: feed it
// bytes, look at what the protocol wrote.
//
//	tr := strandtest.NewTransport(NewEcho())
//	tr.Feed("hello")
//	if got := tr.Written(); got != "hello" {
//		t.Errorf("wrote %q", got)
//	}
//
// For two protocols, or a protocol and the real transport, there are [Pair]
// and the in-memory network below it: [Pipe], [Listen], [PacketPipe].
// [Recorder] is a protocol that notes its callbacks. [Faults] cut, delay, stall
// and break what any net.Conn carries, the same way every time for the same
// seed. [Check] wraps a protocol and fails the test if a callback comes that
// must not come, or if the protocol misuses its transport.
//
// For a transport of one's own there is [TestTransport], the conformance suite
// that every stream transport of package strand passes.
package strandtest
