// Echo-bench-server echoes whatever it receives and prints nothing per
// message: it is the server to measure the library with.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/examples/internal/selfsigned"
)

type echo struct {
	strand.NopProtocol
	t strand.Transport
}

func newEcho() *echo { return new(echo) }

func (e *echo) ConnectionMade(t strand.Transport) { e.t = t }
func (e *echo) DataReceived(data []byte)          { e.t.Write(data) } // an error also ends the connection

// A peer that sends without reading its echo is stopped.
func (e *echo) PauseWriting()  { e.t.PauseReading() }
func (e *echo) ResumeWriting() { e.t.ResumeReading() }

// datagramEcho is the same over UDP. While answers have to wait nothing more is
// received; what the kernel has no room for then, and what cannot be sent, is
// lost, as datagrams are.
type datagramEcho struct {
	strand.NopDatagramProtocol
	t strand.DatagramTransport
}

func newDatagramEcho() *datagramEcho { return new(datagramEcho) }

func (e *datagramEcho) ConnectionMade(t strand.DatagramTransport)   { e.t = t }
func (e *datagramEcho) DatagramReceived(data []byte, addr net.Addr) { e.t.SendTo(data, addr) }
func (e *datagramEcho) PauseWriting()                               { e.t.PauseReading() }
func (e *datagramEcho) ResumeWriting()                              { e.t.ResumeReading() }

func main() {
	network := flag.String("net", "tcp", "`network`: tcp, unix or udp")
	addr := flag.String("addr", "127.0.0.1:8888", "`address` to listen on, a path for unix")
	secure := flag.Bool("tls", false, "speak TLS 1.3, with a certificate made in memory")
	program.Parse("echo-bench-server [-net network] [-addr address] [-tls]",
		"Echoes whatever it receives, for measurements. Prints its addresses, then\nnothing, until it is interrupted.")
	program.Run(func(ctx context.Context) error {
		if *network == "udp" {
			return runDatagram(ctx, *addr)
		}
		return run(ctx, *network, *addr, *secure)
	})
}

func run(ctx context.Context, network, addr string, secure bool) error {
	var opts strand.ServerOptions
	if secure {
		cert, err := selfsigned.New()
		if err != nil {
			return err
		}
		opts.TLS = &strand.TLSOptions{Config: &tls.Config{
			Certificates: []tls.Certificate{cert},
			MinVersion:   tls.VersionTLS13,
		}}
	}
	server, err := strand.CreateServer(ctx, network, addr, newEcho, &opts)
	if err != nil {
		return err
	}
	return program.Serve(ctx, server)
}

func runDatagram(ctx context.Context, addr string) error {
	t, _, err := strand.CreateDatagramEndpoint(ctx, "udp", addr, "", newDatagramEcho, nil)
	if err != nil {
		return err
	}
	fmt.Println("listening on", t.LocalAddr())
	<-ctx.Done()
	t.Close()
	<-t.Done()
	return nil
}
