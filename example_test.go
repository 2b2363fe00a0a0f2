package strand_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
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

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// Frames is a protocol of messages with their length in front, 4 bytes, big
// end first. It answers each with a message of its own.
type Frames struct {
	strand.NopProtocol
	t       strand.Transport
	partial []byte
}

const maxFrame = 1 << 20

func (f *Frames) ConnectionMade(t strand.Transport) { f.t = t }

func (f *Frames) DataReceived(data []byte) {
	f.partial = append(f.partial, data...)
	for len(f.partial) >= 4 {
		size := binary.BigEndian.Uint32(f.partial)
		if size > maxFrame { // before it is waited for
			f.t.Abort()
			return
		}
		end := 4 + int(size)
		if len(f.partial) < end {
			return
		}
		f.send(fmt.Appendf(nil, "%d bytes", len(f.partial[4:end])))
		f.partial = f.partial[end:]
	}
}

// send writes both pieces with one call.
func (f *Frames) send(message []byte) {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(message)))
	f.t.WriteLines(size[:], message)
}

// Messages with their length in front.
func Example_lengthPrefixedFrames() {
	tr := strandtest.NewTransport(new(Frames))
	tr.Feed("\x00\x00\x00\x05hel") // cut wherever the network cuts
	fmt.Printf("%q\n", tr.Written())
	tr.Feed("lo\x00\x00\x00\x00")
	fmt.Printf("%q\n", tr.Written())
	tr.Feed("\xff\xff\xff\xff")
	fmt.Println("aborted:", tr.Aborted())
	// Output:
	// ""
	// "\x00\x00\x00\a5 bytes\x00\x00\x00\a0 bytes"
	// aborted: true
}

// Side is one of the two connections of a proxy. Of the other one it touches
// the transport only, whose methods any goroutine may call.
type Side struct {
	strand.NopProtocol
	t, other strand.Transport
}

func (s *Side) ConnectionMade(t strand.Transport) { s.t = t }
func (s *Side) ResumeWriting()                    { s.other.ResumeReading() }
func (s *Side) EOFReceived() bool                 { return s.other.WriteEOF() == nil }
func (s *Side) ConnectionLost(err error)          { s.other.Close() }

// DataReceived pauses by itself while the other side holds too much. The other
// side's PauseWriting comes in turn with its own callbacks: much could be
// received and written until then.
func (s *Side) DataReceived(data []byte) {
	s.other.Write(data)
	if s.other.Writable() {
		return
	}
	s.t.PauseReading()
	if s.other.Writable() { // its ResumeWriting may have come before the pause
		s.t.ResumeReading()
	}
}

// Front is the side that a client has connected to.
type Front struct {
	Side
	upstream string
}

// ConnectionMade may block: nothing is read before it returns, and no other
// connection waits.
func (f *Front) ConnectionMade(t strand.Transport) {
	f.t = t
	back := &Side{other: t}
	var err error
	if f.other, _, err = strand.CreateConnection(t.Context(), "tcp", f.upstream, func() *Side { return back }, nil); err != nil {
		f.other = t // nobody else
		t.Abort()
	}
}

// A proxy holds back each side while the other one does not read.
func Example_proxy() {
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", NewEcho, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Shutdown(ctx)
	upstream := server.Addrs()[0].String()
	proxy, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", func() *Front { return &Front{upstream: upstream} }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ask(proxy.Addrs()[0], "hello"))
	fmt.Println(proxy.Shutdown(ctx))
	// Output:
	// hello
	// <nil>
}

// With TLS on both ends, ConnectionMade comes after the handshake.
func ExampleCreateServer_tls() {
	clientTLS, serverTLS := strandtest.TLSOptions() // a certificate for tests
	ctx := context.Background()
	server, err := strand.CreateServer(ctx, "tcp", "127.0.0.1:0", NewEcho, &strand.ServerOptions{TLS: serverTLS})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Shutdown(ctx)
	conn, err := tls.Dial("tcp", server.Addrs()[0].String(), &tls.Config{RootCAs: clientTLS.Config.RootCAs, ServerName: "localhost"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello")
	answer := make([]byte, 5)
	_, err = io.ReadFull(conn, answer)
	fmt.Printf("%s %v\n", answer, err)
	// Output: hello <nil>
}

// Mail is a line protocol that a client can switch to TLS in the middle.
type Mail struct {
	strand.NopProtocol
	t   strand.Transport
	tls *strand.TLSOptions
}

func (m *Mail) ConnectionMade(t strand.Transport) { m.t = t }

func (m *Mail) DataReceived(data []byte) {
	_, secure := strand.TLSState(m.t)
	switch string(data) { // a real protocol puts lines together first
	case "STARTTLS\n":
		m.t.Write([]byte("go ahead\n")) // goes out in clear
		if err := strand.StartTLS(m.t, m.tls, nil); err != nil {
			m.t.Abort()
		}
	case "SECURE?\n":
		fmt.Fprintf(m.t, "%t\n", secure)
	}
}

// STARTTLS: the same Transport goes on, encrypted.
func ExampleStartTLS() {
	clientTLS, serverTLS := strandtest.TLSOptions()
	ours, theirs := net.Pipe()
	t, _, err := strand.Attach(context.Background(), ours, func() *Mail { return &Mail{tls: serverTLS} }, nil)
	if err != nil {
		fmt.Println(errors.Join(err, ours.Close()))
		return
	}

	say := func(conn net.Conn, line string) {
		fmt.Fprint(conn, line)
		answer := make([]byte, 64)
		n, err := conn.Read(answer)
		fmt.Printf("%q %v\n", answer[:n], err)
	}
	say(theirs, "SECURE?\n")
	say(theirs, "STARTTLS\n")
	config := clientTLS.Config.Clone()
	config.ServerName = "localhost"
	say(tls.Client(theirs, config), "SECURE?\n")
	t.Abort()
	<-t.Done()
	// Output:
	// "false\n" <nil>
	// "go ahead\n" <nil>
	// "true\n" <nil>
}

// StartTLSWait is for goroutines that are no callbacks.
func ExampleStartTLSWait() {
	clientTLS, serverTLS := strandtest.TLSOptions()
	ours, theirs := net.Pipe()
	server := tls.Server(theirs, serverTLS.Config)
	go server.Handshake()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, _, err := strand.Attach(ctx, ours, NewEcho, nil)
	if err != nil {
		fmt.Println(errors.Join(err, ours.Close()))
		return
	}
	fmt.Println(strand.StartTLSWait(ctx, t, clientTLS))
	state, secure := strand.TLSState(t)
	fmt.Println(secure, tls.VersionName(state.Version))
	t.Abort()
	<-t.Done()
	// Output:
	// <nil>
	// true TLS 1.3
}

// Sender sends a file to everybody who connects.
type Sender struct {
	strand.NopProtocol
	path string
}

func (s *Sender) ConnectionMade(t strand.Transport) {
	defer t.Close()
	f, err := os.Open(s.path)
	if err != nil {
		return
	}
	defer f.Close()
	n, err := strand.Sendfile(t.Context(), t, f, 0, 0) // blocks this connection only
	fmt.Println("sent", n, err)
}

// Sendfile has the kernel send a file where it can.
func ExampleSendfile() {
	f, err := os.CreateTemp("", "strand")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString("hello, file\n")
	if err := errors.Join(err, f.Close()); err != nil {
		fmt.Println(err)
		return
	}

	ours, theirs := net.Pipe()
	go strand.Attach(context.Background(), ours, func() *Sender { return &Sender{path: f.Name()} }, nil)
	all, err := io.ReadAll(theirs)
	fmt.Printf("%s%v\n", all, err)
	// Output:
	// sent 12 <nil>
	// hello, file
	// <nil>
}

// Answers sends each datagram back to where it came from.
type Answers struct {
	strand.NopDatagramProtocol
	t strand.DatagramTransport
}

func (a *Answers) ConnectionMade(t strand.DatagramTransport)   { a.t = t }
func (a *Answers) DatagramReceived(data []byte, from net.Addr) { a.t.SendTo(data, from) }

// Question sends a datagram to its one peer and prints the answer.
type Question struct {
	strand.NopDatagramProtocol
	t strand.DatagramTransport
}

func (q *Question) ConnectionMade(t strand.DatagramTransport) {
	q.t = t
	t.SendTo([]byte("hello"), nil) // nil: the peer
}

func (q *Question) DatagramReceived(data []byte, from net.Addr) {
	fmt.Printf("received %q\n", data)
	q.t.Close()
}

func (q *Question) ErrorReceived(err error) { // nobody is there, say
	fmt.Println(err)
	q.t.Close()
}

// One endpoint answers everybody, the other one has a single peer.
func ExampleCreateDatagramEndpoint() {
	ctx := context.Background()
	server, _, err := strand.CreateDatagramEndpoint(ctx, "udp", "127.0.0.1:0", "", func() *Answers { return new(Answers) }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, _, err := strand.CreateDatagramEndpoint(ctx, "udp", "", server.LocalAddr().String(), func() *Question { return new(Question) }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client.CallLater(time.Minute, client.Abort) // a datagram may get lost
	<-client.Done()
	// Output: received "hello"
}

// A socket that exists already, any net.PacketConn, becomes a transport.
func ExampleAttachPacket() {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server, _, err := strand.AttachPacket(context.Background(), pc, func() *Answers { return new(Answers) }, nil)
	if err != nil {
		fmt.Println(errors.Join(err, pc.Close()))
		return
	}
	defer server.Close()
	client, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "hello")
	answer := make([]byte, 64)
	n, err := client.Read(answer)
	fmt.Printf("%s %v\n", answer[:n], err)
	// Output: hello <nil>
}

// Two files, a program's own standard input and output for example, become one
// transport.
func ExampleConnectPipe() {
	in, question, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, out, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Close()
	if _, _, err = strand.ConnectPipe(context.Background(), in, out, NewEcho, nil); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(question, "hello")
	question.Close()
	all, err := io.ReadAll(answer) // until the transport has closed its end
	fmt.Printf("%s %v\n", all, err)
	// Output: hello <nil>
}

// Printer prints what it receives.
type Printer struct{ strand.NopProtocol }

func (p *Printer) DataReceived(data []byte) { fmt.Printf("received %q\n", data) }
func (p *Printer) ConnectionLost(err error) { fmt.Println("connection lost:", err) }

// One half of a pipe each.
func ExampleConnectReadPipe() {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	reader, _, err := strand.ConnectReadPipe(ctx, r, func() *Printer { return new(Printer) }, nil)
	if err != nil {
		fmt.Println(errors.Join(err, r.Close(), w.Close()))
		return
	}
	writer, _, err := strand.ConnectWritePipe(ctx, w, func() *strand.NopProtocol { return new(strand.NopProtocol) }, nil)
	if err != nil {
		fmt.Println(errors.Join(err, w.Close()))
		return
	}
	writer.Write([]byte("hello"))
	writer.Close()
	<-reader.Done()
	// Output:
	// received "hello"
	// connection lost: <nil>
}

// Sorter gives a child process something to sort, and collects what it prints.
type Sorter struct {
	strand.NopSubprocessProtocol
	t   strand.SubprocessTransport
	out bytes.Buffer
}

func (s *Sorter) ConnectionMade(t strand.SubprocessTransport) {
	s.t = t
	stdin := t.PipeTransport(0)
	stdin.Write([]byte("pear\napple\nfig\n"))
	stdin.WriteEOF()
}

func (s *Sorter) PipeDataReceived(fd int, data []byte) { s.out.Write(data) }

// ConnectionLost comes after the last byte and the exit.
func (s *Sorter) ConnectionLost(err error) {
	code, _ := s.t.ReturnCode()
	fmt.Printf("%sexit status %d, %v\n", s.out.String(), code, err)
}

// A child process and its pipes.
func ExampleSubprocessExec() {
	t, _, err := strand.SubprocessExec(context.Background(), []string{"sort"}, func() *Sorter { return new(Sorter) }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-t.Done()
	// Output:
	// apple
	// fig
	// pear
	// exit status 0, <nil>
}

// A command line for the shell, here one that sorts the other way round.
func ExampleSubprocessShell() {
	opts := &strand.SubprocessOptions{Stderr: strand.StdioInherit}
	t, _, err := strand.SubprocessShell(context.Background(), "sort -r; exit 3", func() *Sorter { return new(Sorter) }, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-t.Done()
	// Output:
	// pear
	// fig
	// apple
	// exit status 3, <nil>
}

// Ring receives into memory of its own.
type Ring struct {
	strand.NopProtocol
	memory [4]byte
}

func (r *Ring) GetBuffer(int) []byte { return r.memory[:] }
func (r *Ring) BufferUpdated(n int)  { fmt.Printf("%q\n", r.memory[:n]) }

// A protocol with GetBuffer and BufferUpdated is received into its own memory.
func ExampleBufferedProtocol() {
	strandtest.NewTransport(new(Ring)).Feed("hello, ring")
	// Output:
	// "hell"
	// "o, r"
	// "ing"
}
