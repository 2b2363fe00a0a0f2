// Package streams is asyncio's streams: a connection as a [Reader] and a
// [Writer], for code that reads better from top to bottom than as callbacks.
// It is built on the transports and protocols of package strand and on nothing
// else of it than what every program can use.
//
// This is a whole server. It sends each line back:
//
//	func echo(r *streams.Reader, w *streams.Writer) {
//		ctx := context.Background()
//		for line, err := range r.Lines(ctx) {
//			if err != nil {
//				log.Print(err)
//				return
//			}
//			w.Write(line)
//			if err := w.Drain(ctx); err != nil {
//				log.Print(err)
//				return
//			}
//		}
//	}
//
//	server, err := streams.StartServer(ctx, "tcp", "127.0.0.1:8888", echo, nil)
//
// # What blocks
//
// The methods of a Reader wait for input, [Writer.Drain] waits for output to go
// out, [Writer.WaitClosed] for the end of the connection. All of them but
// [Reader.Read] and [Writer.ReadFrom], which have the signatures of package io,
// take a context, and return its cause when it ends; nothing that was received
// is lost by that, and the stream goes on. [Writer.Write] never blocks: it holds
// what the kernel does not take, however much that is. A program that writes
// more than a little calls Drain after it.
//
// None of these may be waited for inside a func given to the transport's
// CallSoon or CallLater, or in any other callback of the same connection.
//
// # Goroutines
//
// The only go statement of this package starts a server's handler. A connection
// without one has the goroutines that package strand gives it.
package streams
