// Existing-socket makes a connection that already exists a transport: one end
// of a socket pair gets a protocol, the other is written to by hand.
package main

import (
	"context"
	"fmt"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/examples/internal/socketpair"
)

type printer struct {
	strand.NopProtocol
	t strand.Transport
}

func newPrinter() *printer { return new(printer) }

func (p *printer) ConnectionMade(t strand.Transport) { p.t = t }

// DataReceived has what it came for, and closes.
func (p *printer) DataReceived(data []byte) {
	fmt.Printf("received: %q\n", data)
	p.t.Close()
}

func (p *printer) ConnectionLost(err error) { fmt.Println("connection lost:", err) }

func main() {
	program.Parse("existing-socket", "Attaches a protocol to one end of a socket pair, writes \"abc\" to the other\nend, and prints what the protocol gets.")
	program.Run(run)
}

func run(ctx context.Context) error {
	ours, theirs, err := socketpair.New()
	if err != nil {
		return err
	}
	defer theirs.Close()
	t, _, err := strand.Attach(ctx, ours, newPrinter, nil)
	if err != nil {
		ours.Close() // it has stayed ours
		return err
	}
	if _, err := theirs.Write([]byte("abc")); err != nil {
		t.Abort()
		return err
	}
	<-t.Done()
	return nil
}
