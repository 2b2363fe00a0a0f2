package conformance

import (
	"context"
	"fmt"

	"github.com/gostrand/strand"
)

// stdio are the words for a child's standard streams.
var stdio = map[string]strand.Stdio{
	"": strand.StdioPipe, "pipe": strand.StdioPipe, "null": strand.StdioNull,
	"stdout": strand.StdioStdout, "inherit": strand.StdioInherit,
}

func startSubprocess(r *Run) error {
	s := r.scenario
	opts := &strand.SubprocessOptions{TransportOptions: r.options()}
	for name, stream := range map[string]*strand.Stdio{"stdin": &opts.Stdin, "stdout": &opts.Stdout, "stderr": &opts.Stderr} {
		choice, ok := stdio[s.Stdio[name]]
		if !ok {
			return fmt.Errorf("unknown %s: %q", name, s.Stdio[name])
		}
		*stream = choice
	}
	r.addPeers()
	r.startPeers()
	factory := func() strand.SubprocessProtocol {
		c := r.connection()
		return &subprocessProtocol{reactions: c.reactions(0)}
	}
	r.created(func() error {
		var err error
		if s.Shell != "" {
			_, _, err = strand.SubprocessShell(context.Background(), s.Shell, factory, opts)
		} else {
			_, _, err = strand.SubprocessExec(context.Background(), s.Command, factory, opts)
		}
		return err
	})
	return nil
}
