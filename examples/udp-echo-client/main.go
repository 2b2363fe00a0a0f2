// Udp-echo-client sends a datagram to an echo server and prints what comes
// back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

const (
	attempts = 10 // a datagram may be lost, and so may the answer
	patience = time.Second
)

type client struct {
	strand.NopDatagramProtocol
	message string
	t       strand.DatagramTransport
	left    int    // attempts
	answer  string // what came back
	err     error  // why nothing did
}

// ConnectionMade knows its server: the endpoint was made with its address, and
// so hears from no one else.
func (c *client) ConnectionMade(t strand.DatagramTransport) {
	c.t = t
	c.send()
}

// send sends the message, and looks a second later whether it has to be sent
// again.
func (c *client) send() {
	if c.left == 0 {
		c.finish("", errors.New("no answer"))
		return
	}
	c.left--
	if err := c.t.SendTo([]byte(c.message), nil); err != nil {
		c.finish("", err)
		return
	}
	c.t.CallLater(patience, c.send)
}

func (c *client) DatagramReceived(data []byte, _ net.Addr) { c.finish(string(data), nil) }

// ErrorReceived hears, among other things, that nobody receives at the
// server's address.
func (c *client) ErrorReceived(err error) { c.finish("", err) }

// finish is called once for what matters. The timer, or another answer, may
// come between Close and the end.
func (c *client) finish(answer string, err error) {
	if c.t.IsClosing() {
		return
	}
	c.answer, c.err = answer, err
	c.t.Close()
}

func main() {
	addr := flag.String("addr", "127.0.0.1:9999", "`address` of the server")
	message := flag.String("message", "Hello World!", "`text` to send")
	program.Parse("udp-echo-client [-addr address] [-message text]", "Sends a datagram to an echo server and prints what comes back.")
	program.Run(func(ctx context.Context) error { return run(ctx, *addr, *message) })
}

func run(ctx context.Context, addr, message string) error {
	factory := func() *client { return &client{message: message, left: attempts} }
	t, c, err := strand.CreateDatagramEndpoint(ctx, "udp", "", addr, factory, nil)
	if err != nil {
		return err
	}
	fmt.Printf("sent: %q\n", message)
	select {
	case <-t.Done(): // from here on nobody else touches c
	case <-ctx.Done():
		t.Abort()
		return context.Cause(ctx)
	}
	if c.err != nil {
		return c.err
	}
	fmt.Printf("received: %q\n", c.answer)
	if c.answer != message {
		return errors.New("that is not what was sent")
	}
	return nil
}
