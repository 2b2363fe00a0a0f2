// Streams-existing-socket makes a connection that already exists a stream: one
// end of a socket pair is read line by line, the other is written to by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/gostrand/strand/streams"
)

func main() {
	flag.Usage = usage
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), "usage: streams-existing-socket\n\n"+
		"Makes one end of a socket pair a stream, writes two lines to the other end,\n"+
		"and prints what the stream reads.\n")
}

func run(ctx context.Context) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	r, w, err := streams.Attach(ctx, ours, nil)
	if err != nil {
		ours.Close() // it has stayed ours
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(theirs, "one\ntwo\n"); err != nil {
		return err
	}
	for range 2 {
		line, err := r.ReadLine(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("received: %q\n", line)
	}
	w.Close()
	err = w.WaitClosed(ctx)
	fmt.Println("closed:", err)
	return err
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
