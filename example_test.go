package strand_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/gostrand/strand"
)

// Echo sends back what it receives. It is the protocol of the first examples.
type Echo struct {
	strand.NopProtocol
	t strand.Transport
}

func NewEcho() *Echo { return new(Echo) }

func (e *Echo) ConnectionMade(t strand.Transport) { e.t = t }
func (e *Echo) DataReceived(data []byte)          { e.t.Write(data) } // an error also ends the connection
func (e *Echo) PauseWriting()                     { e.t.PauseReading() }
func (e *Echo) ResumeWriting()                    { e.t.ResumeReading() }

// ask is a client by hand: it sends a message and returns the whole answer.
func ask(addr net.Addr, message string) string {
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_, err = io.WriteString(c, message)
	if err := errors.Join(err, c.(*net.TCPConn).CloseWrite()); err != nil {
		return err.Error()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(answer)
}

// A server with a protocol of its own for each connection.
func ExampleCreateServer() {
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", NewEcho, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ask(server.Addrs()[0], "hello"))
	fmt.Println(server.Shutdown(ctx))
	// Output:
	// hello
	// <nil>
}

// ServeListener takes any net.Listener: a socket that was inherited, one that
// speaks TLS, one that lives in memory.
func ExampleServeListener() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := strand.ServeListener(ln, NewEcho, &strand.ServerOptions{MaxConnections: 100})
	if err != nil {
		fmt.Println(errors.Join(err, ln.Close()))
		return
	}
	fmt.Println(ask(ln.Addr(), "hello"))
	fmt.Println(server.Shutdown(context.Background()))
	// Output:
	// hello
	// <nil>
}

// Greeting is a client's protocol: it says something and prints the answer.
type Greeting struct{ strand.NopProtocol }

func NewGreeting() *Greeting { return new(Greeting) }

func (g *Greeting) ConnectionMade(t strand.Transport) {
	t.Write([]byte("hello"))
	t.WriteEOF()
}

func (g *Greeting) DataReceived(data []byte) { fmt.Printf("received %q\n", data) }
func (g *Greeting) ConnectionLost(err error) { fmt.Println("connection lost:", err) }

// A client. Done tells when its ConnectionLost has returned.
func ExampleCreateConnection() {
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", NewEcho, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Shutdown(ctx)

	t, _, err := strand.CreateConnection(ctx, "tcp", server.Addrs()[0].String(), NewGreeting, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-t.Done()
	// Output:
	// received "hello"
	// connection lost: <nil>
}

// A connection that exists already becomes a transport, here one end of
// net.Pipe.
func ExampleAttach() {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	t, _, err := strand.Attach(context.Background(), ours, NewEcho, nil)
	if err != nil {
		fmt.Println(errors.Join(err, ours.Close()))
		return
	}

	fmt.Fprint(theirs, "hello")
	answer := make([]byte, 5)
	if _, err := io.ReadFull(theirs, answer); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s\n", answer)

	t.Close()
	<-t.Done()
	_, err = theirs.Read(answer)
	fmt.Println(err)
	// Output:
	// hello
	// EOF
}

// Polite is a strand.ShutdownRequester: asked to finish, it says goodbye.
type Polite struct{ Echo }

func (p *Polite) ShutdownRequested() {
	p.t.Write([]byte("goodbye"))
	p.t.Close()
}

// Shutdown stops accepting, lets the connections finish, and waits for them,
// for as long as its context allows.
func ExampleServer_Shutdown() {
	server, err := strand.CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *Polite { return new(Polite) }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := net.Dial("tcp", server.Addrs()[0].String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "hello ")
	heard := make([]byte, 6)
	if _, err := io.ReadFull(client, heard); err != nil { // the connection is in use
		fmt.Println(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println("Shutdown:", server.Shutdown(ctx))

	rest, err := io.ReadAll(client)
	fmt.Printf("%s%s %v\n", heard, rest, err)
	// Output:
	// Shutdown: <nil>
	// hello goodbye <nil>
}

// ServeConn makes a connection that came from elsewhere, a hijacked HTTP
// connection for example, one of the server's: Shutdown and Wait include it.
func ExampleServer_ServeConn() {
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", NewEcho, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	if err := server.ServeConn(ours); err != nil {
		fmt.Println(errors.Join(err, ours.Close()))
		return
	}

	fmt.Fprint(theirs, "hello")
	answer := make([]byte, 5)
	if _, err := io.ReadFull(theirs, answer); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s, %d connection\n", answer, len(server.Connections()))
	fmt.Println(server.Shutdown(ctx), len(server.Connections()))
	// Output:
	// hello, 1 connection
	// <nil> 0
}

// Shouter is a line protocol: it answers each line in capitals. Bytes arrive
// cut wherever the network cut them, so what is no whole line yet is kept,
// up to a limit.
type Shouter struct {
	strand.NopProtocol
	t       strand.Transport
	partial []byte
}

const maxLine = 1024

func (s *Shouter) ConnectionMade(t strand.Transport) { s.t = t }

func (s *Shouter) DataReceived(data []byte) {
	s.partial = append(s.partial, data...) // data is only ours until we return
	for {
		line, rest, ok := bytes.Cut(s.partial, []byte("\n"))
		if len(line) > maxLine {
			s.t.Write([]byte("LINE TOO LONG\n"))
			s.t.Close()
			return
		}
		if !ok {
			return
		}
		s.t.WriteLines(bytes.ToUpper(line), []byte("\n"))
		s.partial = rest
	}
}

// A line protocol.
func Example_lineProtocol() {
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", func() *Shouter { return new(Shouter) }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(ask(server.Addrs()[0], "one\ntwo\nno end of line"))
	fmt.Print(ask(server.Addrs()[0], strings.Repeat("x", 2*maxLine)))
	fmt.Println(server.Shutdown(ctx))
	// Output:
	// ONE
	// TWO
	// LINE TOO LONG
	// <nil>
}

// Counter sends the numbers up to n, as fast as its peer takes them and no
// faster.
type Counter struct {
	strand.NopProtocol
	t       strand.Transport
	next, n int
	paused  bool
	most    int // bytes the transport has held
}

func (c *Counter) ConnectionMade(t strand.Transport) {
	c.t = t
	c.send()
}

func (c *Counter) PauseWriting()  { c.paused = true }
func (c *Counter) ResumeWriting() { c.send() }

// send goes on while the transport is Writable; if it stops, ResumeWriting
// follows.
func (c *Counter) send() {
	for ; c.next < c.n && c.t.Writable(); c.next++ {
		fmt.Fprintln(c.t, c.next)
		c.most = max(c.most, c.t.WriteBufferSize())
	}
	if c.next == c.n {
		c.t.Close() // what was written still goes out
	}
}

// Backpressure: a large answer to a slow reader does not fill the memory.
func Example_backpressure() {
	ours, theirs := net.Pipe() // it holds no byte: each waits until it is read
	counter := &Counter{n: 50_000}
	t, _, err := strand.Attach(context.Background(), ours, func() *Counter { return counter }, nil)
	if err != nil {
		fmt.Println(errors.Join(err, ours.Close()))
		return
	}
	all, err := io.ReadAll(theirs)
	<-t.Done() // no callback runs any more, so that counter may be looked at
	fmt.Println(bytes.Count(all, []byte("\n")), "lines,", err)
	fmt.Println("paused:", counter.paused)
	fmt.Println("held at most 64 KiB and a line:", counter.most <= 64<<10+len("50000\n"))
	// Output:
	// 50000 lines, <nil>
	// paused: true
	// held at most 64 KiB and a line: true
}
