// Package strand is asyncio's transports and protocols for Go: a transport
// decides how bytes move, a protocol decides which bytes. A program implements
// a [Protocol], and the transport calls it when something happens on its
// connection. The name is the promise: the callbacks of one connection are a
// strand, run strictly one after the other, on goroutines and Go's own network
// poller.
//
// This is a whole server. It sends back what it receives, and stops reading
// from a client that does not read what is sent back:
//
//	package main
//
//	import (
//		"context"
//		"log"
//
//		"github.com/gostrand/strand"
//	)
//
//	type Echo struct {
//		strand.NopProtocol
//		t strand.Transport
//	}
//
//	func NewEcho() *Echo { return new(Echo) }
//
//	func (e *Echo) ConnectionMade(t strand.Transport) { e.t = t }
//	func (e *Echo) DataReceived(data []byte)          { e.t.Write(data) }
//	func (e *Echo) PauseWriting()                     { e.t.PauseReading() }
//	func (e *Echo) ResumeWriting()                    { e.t.ResumeReading() }
//
//	func main() {
//		ctx := context.Background()
//		server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:8888", NewEcho, nil)
//		if err != nil {
//			log.Fatal(err)
//		}
//		log.Fatal(server.ServeForever(ctx))
//	}
//
// # What there is
//
// [CreateServer] and [ServeListener] accept connections, [CreateConnection]
// makes one, [Attach] takes one over that exists: over TCP, Unix sockets and
// any [net.Conn], each with or without TLS from the beginning. [StartTLS] begins
// it later, [Sendfile] sends a file. [CreateDatagramEndpoint] and [AttachPacket]
// are for datagrams, [ConnectPipe] is for pipes and terminals, [SubprocessExec]
// and [SubprocessShell] are for child processes. Each of them gives a protocol
// a transport: [Transport], [DatagramTransport] or [SubprocessTransport]. A
// program implements only the callbacks that matter to it and embeds
// [NopProtocol], [NopDatagramProtocol] or [NopSubprocessProtocol] for the rest.
//
// Package streams has readers and writers for code that is better read from top
// to bottom, package strandtest a kit to test protocols with.
//
// # The laws of a connection
//
// They hold for every kind of transport, whatever peers, networks and
// protocols do.
//
//  1. ConnectionMade comes first, exactly once. ConnectionLost comes last,
//     exactly once, and nothing comes after it. Between them there are data, at
//     most one EOFReceived, and pauses and resumes.
//  2. The callbacks of one connection never run at the same time and never
//     inside each other, and each happens before the next. A callback may
//     block: it holds up its own connection and no other.
//  3. What a callback causes is delivered after it has returned. Close in
//     DataReceived leads to ConnectionLost later; a Write over the high-water
//     mark leads to PauseWriting right after the running callback and before
//     anything else, while Writable is false at once.
//  4. PauseWriting and ResumeWriting alternate, beginning with PauseWriting.
//     More output held than the high-water mark pauses, no more than the
//     low-water mark resumes.
//  5. Data arrive whole and in order, or the connection ends with an error.
//     Close loses nothing that was accepted: the kernel has taken the last byte
//     before ConnectionLost(nil). The kernel may still reset a connection that
//     is closed with unread input; where the last bytes matter, use WriteEOF
//     and wait for EOFReceived.
//  6. After Close or ConnectionLost, Write returns an error that matches
//     [net.ErrClosed], or is still [ErrWriteAfterEOF] if WriteEOF came first,
//     accessors keep their answers, and every method stays safe and may be
//     called again.
//  7. A panic or runtime.Goexit in a callback is caught and logged with its
//     stack, ends that connection with a [*PanicError], and harms no other
//     connection.
//  8. The descriptor is closed before ConnectionLost is called, so that
//     ConnectionLost can listen on the address again, and stays open while a
//     callback runs, even after Abort.
//
// # Goroutines
//
// The callbacks of a connection run on the goroutine that reads from it; there
// is no hop between a read and DataReceived, nor between DataReceived and the
// system call of its Write. These are all the go statements:
//
//   - Every connection, datagram endpoint and pipe has a reader goroutine, from
//     before ConnectionMade until ConnectionLost has returned.
//   - It has a writer goroutine while it holds output that the kernel has not
//     taken. That runs no callback.
//   - What is posted by [BaseTransport].CallSoon, by a timer or by a water mark
//     while no callback runs is run by a goroutine made for it, which ends when
//     nothing is left.
//   - A conn that can only be used through its own methods, as all that package
//     net did not make, is closed by a goroutine of its own when a read or write
//     has to be interrupted, because its Close may block.
//   - A file that can only block has a goroutine for each call of its Read or
//     Write.
//   - A [Server] has one accepting goroutine for each address it listens on.
//     Its Shutdown closes a listener of the caller's on a goroutine of its own,
//     because the listener's Close may block.
//   - [CreateConnection] has one for each address that it is trying, until it
//     returns.
//   - A subprocess has one that runs ConnectionMade, and one that waits for the
//     exit.
//
// Timers cost no goroutine until they fire. So an idle connection costs one
// parked goroutine and, on a TCP or Unix socket, with TLS too, no receive
// buffer. Nothing is left running after the last ConnectionLost, but for a
// system call on a file that can only block.
//
// Every method of a transport may be called from any goroutine and from inside
// any callback, and none of them waits for a callback or for the network. The
// protocol's own fields are another matter: callbacks may already be running
// when an entry point returns, so other goroutines touch them through CallSoon,
// under a lock of the program's own, or after Done is closed.
//
// # Coming from asyncio
//
// The words are asyncio's in Go's spelling, and the comment of each name ends
// with the asyncio name it stands for. README.md has the table of all names,
// SPEC.md the behaviour in detail and every deliberate difference, with its
// reason.
package strand
