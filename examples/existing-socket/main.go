// Existing-socket makes a connection that already exists a transport: one end
// of a socket pair gets a protocol, the other is written to by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/gostrand/strand"
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
	flag.Usage = usage
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), "usage: existing-socket\n\n"+
		"Attaches a protocol to one end of a socket pair, writes \"abc\" to the other\n"+
		"end, and prints what the protocol gets.\n")
}

func run() error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	t, _, err := strand.Attach(context.Background(), ours, newPrinter, nil)
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

// socketPair is socketpair(2) for systems that lack it: two ends of one
// connection.
func socketPair() (a, b net.Conn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = ln.Accept(); err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, b, nil
}
