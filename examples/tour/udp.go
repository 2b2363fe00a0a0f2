package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/gostrand/strand"
)

// datagrams is the protocol of one UDP socket. There are no connections, and
// so one protocol hears from everybody.
type datagrams struct {
	traced
	t strand.DatagramTransport
}

func (d *datagrams) ConnectionMade(t strand.DatagramTransport) {
	d.t = t
	d.note("ConnectionMade")
}

func (d *datagrams) DatagramReceived(data []byte, _ net.Addr) { d.note("DatagramReceived %q", data) }
func (d *datagrams) ErrorReceived(err error)                  { d.note("ErrorReceived %v", err) }

// sendTo sends to addr, or where the socket is connected to.
func (d *datagrams) sendTo(text string, addr net.Addr) {
	d.note("  SendTo %q", text)
	if err := d.t.SendTo([]byte(text), addr); err != nil {
		d.note("  %v", err)
	}
}

// answerer sends back what it receives.
type answerer struct{ datagrams }

func newAnswerer() *answerer { return &answerer{datagrams{traced: newTraced("server")}} }

func (a *answerer) DatagramReceived(data []byte, addr net.Addr) {
	a.datagrams.DatagramReceived(data, addr)
	a.sendTo(string(data), addr)
}

// asker sends a datagram, then an empty one, and closes when both are back.
type asker struct {
	datagrams
	back int
}

func newAsker() *asker { return &asker{datagrams: datagrams{traced: newTraced("client")}} }

func (a *asker) ConnectionMade(t strand.DatagramTransport) {
	a.datagrams.ConnectionMade(t)
	a.sendTo("hello", nil)
}

func (a *asker) DatagramReceived(data []byte, addr net.Addr) {
	a.datagrams.DatagramReceived(data, addr)
	if a.back++; a.back == 1 {
		a.sendTo("", nil)
		return
	}
	a.note("  Close")
	a.t.Close()
}

func echoUDP(ctx context.Context) error {
	fmt.Println("echo over udp")
	here, server, err := strand.CreateDatagramEndpoint(ctx, "udp", "127.0.0.1:0", "", newAnswerer, nil)
	if err != nil {
		return err
	}
	there, client, err := strand.CreateDatagramEndpoint(ctx, "udp", "", here.LocalAddr().String(), newAsker, nil)
	if err == nil {
		err = client.await(ctx)
		there.Abort()
	}
	here.Close()
	return errors.Join(err, server.await(ctx))
}
