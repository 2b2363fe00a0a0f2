// Stdio-filter copies its standard input to its standard output in upper case,
// through two transports. When nobody takes the output, it stops reading.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// input is the protocol of standard input.
type input struct {
	strand.NopProtocol
	t    strand.Transport
	out  strand.Transport
	lost chan error // gets ConnectionLost's argument
}

func (i *input) ConnectionMade(t strand.Transport) { i.t = t }

// DataReceived stops reading when the output holds enough. It asks twice: the
// two transports run their callbacks at the same time, and output's
// ResumeWriting may just have come and gone.
func (i *input) DataReceived(data []byte) {
	i.out.Write(bytes.ToUpper(data)) // an error of it goes to output's ConnectionLost
	if !i.out.Writable() {
		i.t.PauseReading()
		if i.out.Writable() {
			i.t.ResumeReading()
		}
	}
}

// ConnectionLost has the output end when everything is out.
func (i *input) ConnectionLost(err error) {
	i.lost <- err
	i.out.Close()
}

// output is the protocol of standard output.
type output struct {
	strand.NopProtocol
	resume func()
	lost   error
}

func (o *output) ResumeWriting()           { o.resume() }
func (o *output) ConnectionLost(err error) { o.lost = err }

func main() {
	program.Parse("stdio-filter < input > output",
		"Copies its standard input to its standard output in upper case. Both must be\npipes, sockets or terminals.")
	program.Run(run)
}

func run(ctx context.Context) error {
	lost := make(chan error, 1)
	reading := make(chan strand.Transport, 1) // standard input, when it is there
	o := &output{resume: func() {
		in := <-reading
		in.ResumeReading()
		reading <- in
	}}
	out, _, err := strand.ConnectWritePipe(ctx, os.Stdout, func() *output { return o }, nil)
	if err != nil {
		return err
	}
	in, _, err := strand.ConnectReadPipe(ctx, os.Stdin, func() *input { return &input{out: out, lost: lost} }, nil)
	if err != nil {
		return err
	}
	reading <- in
	select {
	case <-out.Done(): // after the end of the input, or when nobody reads any more
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	in.Abort()
	if o.lost != nil {
		return fmt.Errorf("standard output: %w", o.lost)
	}
	select {
	case err = <-lost:
	default: // nobody reads any more, and the input goes on
	}
	return err
}
