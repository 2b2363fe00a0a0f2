// Replay runs scenarios against strand and prints their traces in the oracle's
// format:
//
//	go run ./conformance/cmd/replay [flags] PATH...
//
// PATH is a scenario or a directory of them. Where a golden trace stands beside
// a scenario, the two are compared, with the scenario's deliberate differences
// applied, and the exit status is 1 if they differ.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/gostrand/strand/conformance"
)

// A replayer counts what became of the scenarios.
type replayer struct {
	cut, only            string
	quiet                bool
	ran, failed, differs int
}

func main() {
	var r replayer
	flag.StringVar(&r.cut, "chunks", "", `cut what peers send: "one" or "random:SEED"`)
	flag.StringVar(&r.only, "only", "", "only scenarios whose name contains this")
	flag.BoolVar(&r.quiet, "q", false, "print only what differs")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	for _, path := range flag.Args() {
		scenarios, err := conformance.Discover(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		for _, s := range scenarios {
			if strings.Contains(s.Name, r.only) {
				r.replay(s)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d scenarios, %d failed; %d differ from asyncio on purpose\n",
		r.ran, r.failed, r.differs)
	if r.failed > 0 {
		os.Exit(1)
	}
}

func (r *replayer) replay(s *conformance.Scenario) {
	trace, err := conformance.Play(s, r.cut, conformance.DefaultTimeout)
	r.ran++
	if len(s.Differs) > 0 {
		r.differs++
	}
	if err != nil {
		r.failed++
		fmt.Printf("== %s\n%sFAILED: %v\n", s.Name, trace, err)
		return
	}
	expected, err := s.Expected()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Printf("== %s (no golden trace)\n%s", s.Name, trace)
	case err != nil:
		r.failed++
		fmt.Println(err)
	case expected != trace:
		r.failed++
		fmt.Printf("== %s: differs\n--- expected\n%s--- strand\n%s", s.Name, expected, trace)
	case !r.quiet:
		fmt.Printf("== %s\n%s", s.Name, trace)
	}
}
