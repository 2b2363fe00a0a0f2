// Line-protocol-anywhere serves one protocol over a TCP connection, a Unix
// socket, its own standard input and output, or those of a child. The protocol
// does not know which.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// maxLine is how long a line may be: a peer that never sends a newline shall
// not fill the memory.
const maxLine = 64 << 10

// lines is the protocol: it answers each line with its number and its words in
// reverse order.
type lines struct {
	strand.NopProtocol
	t      strand.Transport
	begun  []byte // a line of which the end has not come
	number int
}

func newLines() *lines { return new(lines) }

func (l *lines) ConnectionMade(t strand.Transport) { l.t = t }

func (l *lines) DataReceived(data []byte) {
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		l.begun = append(l.begun, line...)
		switch {
		case len(l.begun) > maxLine:
			l.t.Write([]byte("line too long\n"))
			l.t.Close()
			return
		case !whole:
			return
		}
		l.answer(l.begun)
		l.begun, data = l.begun[:0], rest
	}
}

func (l *lines) answer(line []byte) {
	words := bytes.Fields(line)
	for i, j := 0, len(words)-1; i < j; i, j = i+1, j-1 {
		words[i], words[j] = words[j], words[i]
	}
	l.number++
	l.t.Write(fmt.Appendf(nil, "%d: %s\n", l.number, bytes.Join(words, []byte(" "))))
}

func (l *lines) ConnectionLost(err error) {
	if err != nil {
		log.Print(err)
	}
}

// A peer that does not read its answers is not read from either.
func (l *lines) PauseWriting()  { l.t.PauseReading() }
func (l *lines) ResumeWriting() { l.t.ResumeReading() }

func main() {
	program.Parse("line-protocol-anywhere tcp address\n"+
		"       line-protocol-anywhere unix path\n"+
		"       line-protocol-anywhere stdio\n"+
		"       line-protocol-anywhere child command",
		"Answers lines, each with its number and its words in reverse order: those of\n"+
			"clients until it is interrupted, of its own standard input, or of what a child\n"+
			"prints, who reads the answers from its standard input.")
	program.Run(func(ctx context.Context) error { return run(ctx, flag.Arg(0), flag.Arg(1)) })
}

func run(ctx context.Context, where, what string) error {
	switch where {
	case "tcp", "unix":
		return overNetwork(ctx, where, what)
	case "stdio":
		return overPipe(ctx, os.Stdin, os.Stdout)
	case "child":
		return overChild(ctx, what)
	}
	flag.Usage()
	return fmt.Errorf("nothing is known of %q", where)
}

func overNetwork(ctx context.Context, network, address string) error {
	server, err := strand.CreateServer(ctx, network, address, newLines, nil)
	if err != nil {
		return err
	}
	return program.Serve(ctx, server)
}

// overPipe serves one peer until its end or ctx's.
func overPipe(ctx context.Context, r, w *os.File) error {
	t, _, err := strand.ConnectPipe(ctx, r, w, newLines, nil)
	if err != nil {
		return err
	}
	select {
	case <-t.Done():
	case <-ctx.Done():
		t.Abort()
	}
	return nil
}

// overChild gives a child the far ends of two pipes.
func overChild(ctx context.Context, command string) error {
	stdin, w, err := os.Pipe()
	if err != nil {
		return err
	}
	r, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	child, _, err := strand.SubprocessShell(ctx, command, newChild, &strand.SubprocessOptions{
		Stdin:  strand.StdioFile(stdin),
		Stdout: strand.StdioFile(stdout),
		Stderr: strand.StdioInherit,
	})
	if err := errors.Join(err, stdin.Close(), stdout.Close()); err != nil {
		return err
	}
	if err := overPipe(ctx, r, w); err != nil {
		return err
	}
	<-child.Done()
	if code, _ := child.ReturnCode(); code != 0 {
		return fmt.Errorf("the child's return code is %d", code)
	}
	return nil
}

// newChild makes a child's own protocol, which has nothing to do: its output
// goes through the pipes.
func newChild() strand.NopSubprocessProtocol { return strand.NopSubprocessProtocol{} }
