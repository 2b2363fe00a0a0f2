// Subprocess-date runs a program that prints the date, collects what it prints,
// and waits for its end.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/examples/internal/program"
)

// date is the protocol of the child. It only wants the output.
type date struct {
	strand.NopSubprocessProtocol
	output []byte
}

func newDate() *date { return new(date) }

// PipeDataReceived copies: data is only lent.
func (d *date) PipeDataReceived(fd int, data []byte) { d.output = append(d.output, data...) }

func main() {
	program.Parse("subprocess-date [program [argument ...]]",
		"Runs a program that prints the date, by default date, and prints its output.\nAn interrupt kills it.")
	argv := flag.Args()
	if len(argv) == 0 {
		argv = []string{"date"}
	}
	program.Run(func(ctx context.Context) error { return run(ctx, argv) })
}

func run(ctx context.Context, argv []string) error {
	child, d, err := strand.SubprocessExec(ctx, argv, newDate, &strand.SubprocessOptions{
		Stdin:  strand.StdioNull,
		Stderr: strand.StdioInherit,
	})
	if err != nil {
		return err
	}
	<-child.Done() // the child has ended, and all of its output is here
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if code, _ := child.ReturnCode(); code != 0 {
		return fmt.Errorf("%s: return code %d", argv[0], code)
	}
	fmt.Printf("Current date: %s\n", bytes.TrimSpace(d.output))
	return nil
}
