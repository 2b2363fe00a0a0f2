// Udp-echo-server sends every datagram back to where it came from.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// echo is the protocol of the one socket that all clients talk to.
type echo struct {
	strand.NopDatagramProtocol // the callbacks that are not written below
	t                          strand.DatagramTransport
}

func newEcho() *echo { return new(echo) }

func (e *echo) ConnectionMade(t strand.DatagramTransport) { e.t = t }

// DatagramReceived may give addr away: nobody changes it any more.
func (e *echo) DatagramReceived(data []byte, addr net.Addr) {
	log.Printf("%d bytes from %v", len(data), addr)
	if err := e.t.SendTo(data, addr); err != nil {
		log.Print(err)
	}
}

// ErrorReceived hears of answers that could not be sent. The socket goes on.
func (e *echo) ErrorReceived(err error) { log.Print(err) }

func main() {
	addr := flag.String("addr", "127.0.0.1:9999", "`address` to receive on; port 0 takes a free one")
	program.Parse("udp-echo-server [-addr address]", "Sends every datagram back to its sender, until it is interrupted.")
	program.Run(func(ctx context.Context) error { return run(ctx, *addr) })
}

func run(ctx context.Context, addr string) error {
	t, _, err := strand.CreateDatagramEndpoint(ctx, "udp", addr, "", newEcho, nil)
	if err != nil {
		return err
	}
	fmt.Println("listening on", t.LocalAddr())
	<-ctx.Done()
	t.Close() // answers that are queued still go out
	<-t.Done()
	return nil
}
