// Stdio-filter copies its standard input to its standard output in upper case,
// through two transports. When nobody takes the output, it stops reading.
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
)

// input is the protocol of standard input.
type input struct {
	strand.NopProtocol
	t   strand.Transport
	out strand.Transport
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

// EOFReceived has the output end when everything is out.
func (i *input) EOFReceived() (keepOpen bool) {
	i.out.Close()
	return false
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
	flag.Usage = usage
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), "usage: stdio-filter < input > output\n\n"+
		"Copies its standard input to its standard output in upper case. Both must be\n"+
		"pipes, sockets or terminals.\n")
}

func run() error {
	ctx := context.Background()
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
	in, _, err := strand.ConnectReadPipe(ctx, os.Stdin, func() *input { return &input{out: out} }, nil)
	if err != nil {
		return err
	}
	reading <- in
	<-out.Done() // after the end of the input, or when nobody reads any more
	in.Abort()
	if o.lost != nil {
		return errors.Join(errors.New("standard output"), o.lost)
	}
	return nil
}
