// Streams-existing-socket makes a connection that already exists a stream: one
// end of a socket pair is read line by line, the other is written to by hand.
package main

import (
	"context"
	"fmt"
	"io"

	"github.com/gostrand/strand/examples/internal/program"
	"github.com/gostrand/strand/examples/internal/socketpair"
	"github.com/gostrand/strand/streams"
)

func main() {
	program.Parse("streams-existing-socket", "Makes one end of a socket pair a stream, writes two lines to the other end,\nand prints what the stream reads.")
	program.Run(run)
}

func run(ctx context.Context) error {
	ours, theirs, err := socketpair.New()
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
