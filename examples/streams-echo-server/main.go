// Streams-echo-server sends back whatever its clients send, as tcp-echo-server
// does, but each connection is a function that reads and writes. On an
// interrupt it stops accepting, lets the connections finish, and ends.
package main

import (
	"context"
	"flag"
	"io"
	"log"

	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/streams"
)

// echo serves one connection, on a goroutine of its own. Returning closes it.
// io.Copy waits for room in the Writer, so that a client that does not read its
// echo is not read from either.
func echo(r *streams.Reader, w *streams.Writer) {
	peer := w.Transport().RemoteAddr()
	log.Printf("%v connected", peer)
	if n, err := io.Copy(w, r); err != nil {
		log.Printf("%v failed after %d bytes: %v", peer, n, err)
		return
	}
	log.Printf("%v has sent all", peer)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8888", "`address` to listen on; port 0 takes a free one")
	program.Parse("streams-echo-server [-addr address]", "Sends back whatever its clients send, until it is interrupted.")
	program.Run(func(ctx context.Context) error {
		server, err := streams.StartServer(ctx, "tcp", *addr, echo, nil)
		if err != nil {
			return err
		}
		return program.Serve(ctx, server)
	})
}
