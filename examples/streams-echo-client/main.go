// Streams-echo-client sends a message to an echo server, says that no more will
// come, and prints what comes back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/streams"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8888", "`address` of the server")
	message := flag.String("message", "Hello World!", "`text` to send")
	program.Parse("streams-echo-client [-addr address] [-message text]", "Sends a message to an echo server and prints what comes back.")
	program.Run(func(ctx context.Context) error { return run(ctx, *addr, *message) })
}

func run(ctx context.Context, addr, message string) error {
	r, w, err := streams.OpenConnection(ctx, "tcp", addr, nil)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	if err := w.WriteEOF(); err != nil {
		return err
	}
	fmt.Printf("sent: %q\n", message)
	received, err := r.ReadAll(ctx)
	fmt.Printf("received: %q\n", received)
	if err == nil && string(received) != message {
		err = errors.New("that is not what was sent")
	}
	return err
}
