package streams_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
	"github.com/gostrand/strand/streams"
)

// numberLines is a handler: it sends each line back with its number.
func numberLines(r *streams.Reader, w *streams.Writer) {
	ctx := context.Background()
	n := 0
	for line, err := range r.Lines(ctx) {
		if err != nil {
			log.Print(err)
			return
		}
		n++
		fmt.Fprintf(w, "%d: %s", n, line)
		if err := w.Drain(ctx); err != nil {
			log.Print(err)
			return
		}
	}
}

// A server of lines, and a client.
func ExampleStartServer() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := streams.StartServer(ctx, "tcp", "127.0.0.1:0", numberLines, nil)
	if err != nil {
		log.Fatal(err)
	}
	r, w, err := streams.OpenConnection(ctx, "tcp", server.Addrs()[0].String(), nil)
	if err != nil {
		log.Fatal(err)
	}
	io.WriteString(w, "one\ntwo\n") // an error is also Drain's and the Reader's
	if err := w.WriteEOF(); err != nil {
		log.Fatal(err)
	}
	answers, err := r.ReadAll(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", answers)
	w.Close()
	fmt.Println("client:", w.WaitClosed(ctx))
	fmt.Println("server:", server.Shutdown(ctx))
	// Output:
	// 1: one
	// 2: two
	// client: <nil>
	// server: <nil>
}

// Frames with their length in front, over a connection that exists.
func ExampleAttach() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ours, theirs := net.Pipe()
	go func() {
		io.WriteString(theirs, "\x05hello\x06strand\x07cut")
		theirs.Close()
	}()
	r, w, err := streams.Attach(ctx, ours, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for {
		size, err := r.ReadExactly(ctx, 1)
		if errors.Is(err, io.EOF) {
			return // between two frames the stream may end
		}
		if err != nil {
			log.Fatal(err)
		}
		frame, err := r.ReadExactly(ctx, int(size[0]))
		if err != nil {
			fmt.Println(err, "->", errors.Is(err, io.ErrUnexpectedEOF))
			return
		}
		fmt.Printf("%s\n", frame)
	}
	// Output:
	// hello
	// strand
	// streams: 3 bytes read on a total of 7 expected bytes -> true
}

// A net.Conn of a stream: deadlines work.
func ExampleNewConn() {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	r, w, err := streams.Attach(context.Background(), ours, nil)
	if err != nil {
		log.Fatal(err)
	}
	conn := streams.NewConn(r, w)
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err = conn.Read(make([]byte, 100))
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	// Output: true
}

// STARTTLS: the answer in clear, then the same Reader and Writer encrypted.
func ExampleWriter_StartTLS() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	clientTLS, serverTLS := strandtest.TLSOptions() // a certificate for localhost, and who trusts it
	handler := func(r *streams.Reader, w *streams.Writer) {
		if _, err := r.ReadLine(ctx); err != nil { // "STARTTLS"
			log.Print(err)
			return
		}
		io.WriteString(w, "go ahead\n")
		if err := w.StartTLS(ctx, serverTLS); err != nil {
			log.Print(err)
			return
		}
		numberLines(r, w)
	}
	server, err := streams.StartServer(ctx, "tcp", "127.0.0.1:0", handler, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	r, w, err := streams.OpenConnection(ctx, "tcp", server.Addrs()[0].String(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	ask := func(line string) {
		io.WriteString(w, line+"\n")
		answer, err := r.ReadLine(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s", answer)
	}
	ask("STARTTLS")
	if err := w.StartTLS(ctx, clientTLS); err != nil {
		log.Fatal(err)
	}
	ask("secret")
	// Output:
	// go ahead
	// 1: secret
}

// Sort is a child process whose standard input and output are streams.
type Sort struct {
	strand.NopSubprocessProtocol
	in, out *streams.Protocol
}

func (s *Sort) ConnectionMade(t strand.SubprocessTransport) {
	s.in, s.out = overPipe(t.PipeTransport(0)), overPipe(t.PipeTransport(1))
}

// overPipe makes a stream of a pipe that exists. SetProtocol calls no
// ConnectionMade.
func overPipe(t strand.Transport) *streams.Protocol {
	p := streams.NewProtocol(0)
	p.ConnectionMade(t)
	t.SetProtocol(p)
	return p
}

// A Protocol for what the functions of this package do not cover, here a child's
// pipes.
func ExampleProtocol() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, child, err := strand.SubprocessExec(ctx, []string{"sort"}, func() *Sort { return new(Sort) }, nil)
	if err != nil {
		log.Fatal(err)
	}
	w := child.in.Writer()
	for _, word := range []string{"pear", "apple", "fig"} {
		fmt.Fprintln(w, word)
		if err := w.Drain(ctx); err != nil { // waits while the child does not read
			log.Fatal(err)
		}
	}
	w.WriteEOF()
	for line, err := range child.out.Reader().Lines(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s", line)
	}
	<-t.Done()
	// Output:
	// apple
	// fig
	// pear
}
