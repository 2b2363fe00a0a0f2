// Tcp-echo-client sends a message to an echo server, says that no more will
// come, and prints what comes back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

type client struct {
	strand.NopProtocol
	message  string
	received []byte
	lost     chan error // gets ConnectionLost's argument
}

func newClient(message string) *client {
	return &client{message: message, lost: make(chan error, 1)}
}

// ConnectionMade sends the message and half-closes. If one of them fails, the
// echo is not complete, which run finds out.
func (c *client) ConnectionMade(t strand.Transport) {
	t.Write([]byte(c.message))
	t.WriteEOF()
}

func (c *client) DataReceived(data []byte) { c.received = append(c.received, data...) }

func (c *client) ConnectionLost(err error) { c.lost <- err }

func main() {
	addr := flag.String("addr", "127.0.0.1:8888", "`address` of the server")
	message := flag.String("message", "Hello World!", "`text` to send")
	program.Parse("tcp-echo-client [-addr address] [-message text]", "Sends a message to an echo server and prints what comes back.")
	program.Run(func(ctx context.Context) error { return run(ctx, *addr, *message) })
}

func run(ctx context.Context, addr, message string) error {
	t, c, err := strand.CreateConnection(ctx, "tcp", addr, func() *client { return newClient(message) }, nil)
	if err != nil {
		return err
	}
	fmt.Printf("sent: %q\n", message)
	select {
	case err = <-c.lost:
	case <-ctx.Done():
		t.Abort()
		return context.Cause(ctx)
	}
	fmt.Printf("received: %q\n", c.received)
	if err == nil && string(c.received) != message {
		err = errors.New("that is not what was sent")
	}
	return err
}
