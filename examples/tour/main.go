// Tour shows the library at work: TCP and Unix echo servers with clients,
// datagrams over UDP, backpressure, and a graceful shutdown. It prints every
// callback when it runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

func main() {
	program.Parse("tour",
		"Starts a TCP, a Unix and a UDP echo server, talks to them, shows backpressure\n"+
			"and a graceful shutdown, and prints every callback when it runs. It needs\n"+
			"nothing but the loopback interface and a temporary directory.")
	program.Run(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for _, part := range []func(context.Context) error{echoTCP, echoUnix, echoUDP, backpressure, shutdown} {
			if err := part(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// traced notes the callbacks of one connection. The protocols below embed it,
// and add what makes them echo, send or count.
type traced struct {
	name string
	t    strand.Transport
	lost chan error // gets ConnectionLost's argument
}

func newTraced(name string) traced { return traced{name: name, lost: make(chan error, 1)} }

var printing sync.Mutex // callbacks of different connections run at the same time

func (p *traced) note(format string, args ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("  %-7s %s\n", p.name, fmt.Sprintf(format, args...))
}

func (p *traced) ConnectionMade(t strand.Transport) {
	p.t = t
	p.note("ConnectionMade")
}

func (p *traced) DataReceived(data []byte) { p.note("DataReceived %q", data) }
func (p *traced) PauseWriting()            { p.note("PauseWriting") }
func (p *traced) ResumeWriting()           { p.note("ResumeWriting") }

func (p *traced) EOFReceived() bool {
	p.note("EOFReceived")
	return false
}

func (p *traced) ConnectionLost(err error) {
	p.note("ConnectionLost %v", err)
	p.lost <- err
}

// send writes; an error of it also ends the connection, and so is not lost.
func (p *traced) send(text string) {
	p.note("  Write %q", text)
	p.t.Write([]byte(text))
}

// await waits for the end of the connection.
func (p *traced) await(ctx context.Context) error {
	select {
	case err := <-p.lost:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await waits for ch to be closed.
func await(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// echo is a server's protocol. It is also a strand.ShutdownRequester: asked to
// finish, it says goodbye first.
type echo struct{ traced }

func newEcho() *echo { return &echo{newTraced("server")} }

func (e *echo) DataReceived(data []byte) {
	e.traced.DataReceived(data)
	e.send(string(data))
}

func (e *echo) ShutdownRequested() {
	e.note("ShutdownRequested")
	e.send("goodbye")
	e.t.Close()
}

// caller is a client's protocol: it sends one message.
type caller struct {
	traced
	answered chan struct{} // closed by the first DataReceived, then nil
}

func newCaller() *caller { return &caller{newTraced("client"), make(chan struct{})} }

func (c *caller) ConnectionMade(t strand.Transport) {
	c.traced.ConnectionMade(t)
	c.send("hello")
}

func (c *caller) DataReceived(data []byte) {
	c.traced.DataReceived(data)
	if c.answered != nil {
		close(c.answered)
		c.answered = nil
	}
}

func echoTCP(ctx context.Context) error { return echoOver(ctx, "tcp", "127.0.0.1:0") }

func echoUnix(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "tour")
	if err != nil {
		return err
	}
	return errors.Join(echoOver(ctx, "unix", filepath.Join(dir, "echo")), os.RemoveAll(dir))
}

// echoOver sends one message to an echo server and back.
func echoOver(ctx context.Context, network, address string) error {
	fmt.Printf("echo over %s\n", network)
	server, t, client, err := connected(ctx, network, address)
	if err != nil {
		return err
	}
	client.note("  WriteEOF")
	return errors.Join(t.WriteEOF(), client.await(ctx), server.Shutdown(ctx))
}

// connected starts an echo server, connects to it, and waits for the answer to
// the client's message.
func connected(ctx context.Context, network, address string) (*strand.Server, strand.Transport, *caller, error) {
	server, err := strand.CreateServer(ctx, network, address, newEcho, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	client := newCaller()
	answered := client.answered
	t, _, err := strand.CreateConnection(ctx, network, server.Addrs()[0].String(), func() *caller { return client }, nil)
	if err == nil {
		err = await(ctx, answered)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, server.Shutdown(ctx))
	}
	return server, t, client, nil
}

// source sends until its transport holds more than the high-water mark, and
// closes when that has drained to the low-water mark.
type source struct {
	traced
	sent   int
	paused chan struct{} // closed by PauseWriting
}

func (s *source) ConnectionMade(t strand.Transport) {
	s.traced.ConnectionMade(t)
	for t.Writable() {
		n, err := t.Write(make([]byte, 64<<10))
		if err != nil {
			return // ConnectionLost follows, with the error
		}
		s.sent += n
	}
	s.note("  wrote %d KiB until Writable() was false", s.sent>>10)
}

func (s *source) PauseWriting() {
	s.traced.PauseWriting()
	close(s.paused)
}

func (s *source) ResumeWriting() {
	s.traced.ResumeWriting()
	s.note("  Close")
	s.t.Close()
}

// sink counts what it receives, and does not read at first.
type sink struct {
	traced
	received int
}

func (s *sink) ConnectionMade(t strand.Transport) {
	s.traced.ConnectionMade(t)
	s.note("  PauseReading")
	t.PauseReading()
}

func (s *sink) DataReceived(data []byte) { s.received += len(data) }

func (s *sink) EOFReceived() bool {
	s.note("(DataReceived) %d KiB in all", s.received>>10)
	return s.traced.EOFReceived()
}

// backpressure has a server send to a client that does not read.
func backpressure(ctx context.Context) error {
	fmt.Println("backpressure: the client does not read, so the server has to pause")
	from := &source{traced: newTraced("server"), paused: make(chan struct{})}
	to := &sink{traced: newTraced("client")}
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", func() *source { return from }, nil)
	if err != nil {
		return err
	}
	t, _, err := strand.CreateConnection(ctx, "tcp", server.Addrs()[0].String(), func() *sink { return to }, nil)
	if err != nil {
		return errors.Join(err, server.Shutdown(ctx))
	}
	if err := await(ctx, from.paused); err != nil {
		return errors.Join(err, server.Shutdown(ctx))
	}
	to.note("  ResumeReading")
	t.ResumeReading()
	if err := errors.Join(to.await(ctx), from.await(ctx), server.Shutdown(ctx)); err != nil {
		return err
	}
	if to.received != from.sent {
		return fmt.Errorf("%d bytes were sent and %d received", from.sent, to.received)
	}
	return nil
}

// shutdown has a server shut down while a client is connected.
func shutdown(ctx context.Context) error {
	fmt.Println("graceful shutdown: the server's protocol is asked to finish")
	server, t, client, err := connected(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := errors.Join(server.Shutdown(ctx), client.await(ctx)); err != nil {
		return err
	}
	fmt.Printf("  Shutdown has returned; connections left: %d\n", len(server.Connections()))
	if c, err := net.Dial("tcp", t.RemoteAddr().String()); err == nil {
		return errors.Join(errors.New("somebody still listens there"), c.Close())
	}
	return nil
}
