//go:build linux

// Command compare builds the echo servers it finds, loads them in turn and
// prints how they compare with a plain net.Conn loop. Run it in benchmarks/:
//
//	go run ./cmd/compare -pin -scenario 'tcp-64'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/peers"
	"github.com/gostrand/strand/benchmarks/internal/report"
	"github.com/gostrand/strand/benchmarks/internal/runner"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

// options are the command line's.
type options struct {
	scenarios []scenario.Scenario
	servers   []string
	rounds    int
	slices    int
	warmup    time.Duration
	duration  time.Duration
	pin       bool
	noise     float64
	retries   int
	patience  time.Duration
	settle    time.Duration
	fileSize  int64
	markdown  string
	svg       string
	json      string
}

func main() {
	// The children are tied to this thread; see runner.Runner.
	runtime.LockOSThread()
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	expression := flag.String("scenario", "", "measure only scenarios whose name matches this regular expression")
	names := flag.String("servers", strings.Join(peers.Names(), ","), "servers to measure; ratios need "+peers.Base)
	list := flag.Bool("list", false, "print the scenarios and end")
	flag.IntVar(&o.rounds, "rounds", 5, "how often every server is measured under every scenario")
	flag.IntVar(&o.slices, "slices", 4, "into how many pieces a window is cut; between them the other servers have their turn")
	flag.DurationVar(&o.warmup, "warmup", 250*time.Millisecond, "load before each slice")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "the measured window, all slices together")
	flag.BoolVar(&o.pin, "pin", false, "pin the server to one processor and the client to another")
	flag.Float64Var(&o.noise, "noise", 0.10, "a run is disturbed if others take more than this share of all processors")
	flag.IntVar(&o.retries, "retries", 2, "how often a disturbed run is repeated before it is marked")
	flag.DurationVar(&o.patience, "patience", 10*time.Second, "how long to wait for a quiet machine before each run; 0 = not at all")
	flag.DurationVar(&o.settle, "settle", 0, "how long idle connections idle before their memory is read; 0 = as the scenario says")
	flag.Int64Var(&o.fileSize, "filesize", 1<<30, "bytes of the file that is sent")
	flag.StringVar(&o.markdown, "md", "", "write the tables to this Markdown file")
	flag.StringVar(&o.svg, "svg", "", "draw the chart into this SVG file")
	flag.StringVar(&o.json, "json", "", "write every run to this JSON file")
	flag.Parse()
	if flag.NArg() > 0 { // flags behind it would be ignored, too
		return o, fmt.Errorf("unexpected argument %q; -h prints the flags", flag.Arg(0))
	}
	re, err := regexp.Compile(*expression)
	if err != nil {
		return o, err
	}
	o.scenarios = scenario.Match(re)
	if o.settle > 0 {
		for i := range o.scenarios {
			o.scenarios[i].Load.Settle = o.settle
		}
	}
	if *list {
		for _, s := range o.scenarios {
			fmt.Printf("%-16s %s\n", s.Name, s.Title)
		}
		os.Exit(0)
	}
	o.servers = strings.Split(*names, ",")
	return o, o.check()
}

func (o options) check() error {
	for _, name := range o.servers {
		if !slices.Contains(peers.Names(), name) {
			return fmt.Errorf("no server %q; there are %s", name, strings.Join(peers.Names(), ", "))
		}
	}
	switch {
	case len(o.scenarios) == 0:
		return fmt.Errorf("no scenario matches; -list prints them")
	case o.rounds < 1 || o.slices < 1 || o.duration <= 0:
		return fmt.Errorf("rounds, slices and duration must be above zero")
	case o.warmup < 0 || o.noise < 0 || o.retries < 0 || o.patience < 0 || o.settle < 0:
		return fmt.Errorf("warmup, noise, retries, patience and settle must not be negative")
	case o.fileSize < 1<<20:
		return fmt.Errorf("filesize %d: what is counted is MiB", o.fileSize)
	}
	return nil
}

func compare(ctx context.Context, o options) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "cmd", "compare", "main.go")); err != nil {
		return fmt.Errorf("run this in the benchmarks directory: %w", err)
	}
	if err := o.tryFiles(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "strand-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintln(os.Stderr, "building")
	servers, left, err := peers.Build(ctx, root, dir, o.servers)
	if err != nil {
		return err
	}
	out := output{conditions: conditions(o), left: left}
	fmt.Print(out.preamble())

	r, err := newRunner(o, dir)
	if err != nil {
		return err
	}
	m := measurement{options: o, runner: r, servers: servers}
	for _, sc := range o.scenarios {
		runs := m.scenario(ctx, sc)
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("interrupted, with %d of %d scenarios complete", len(out.tables), len(o.scenarios)), out.write(o))
		}
		out.add(sc, runs)
		fmt.Println(out.tables[len(out.tables)-1].Text())
	}
	return out.write(o)
}

// newRunner prepares what the scenarios need.
func newRunner(o options, dir string) (*runner.Runner, error) {
	r := &runner.Runner{Load: peers.LoadPath(dir), Dir: dir, Warmup: o.warmup, Duration: o.duration / time.Duration(o.slices), FileSize: o.fileSize}
	if err := r.Pin(o.pin); err != nil {
		return nil, err
	}
	if err := r.MakeCertificate(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(o.scenarios, func(s scenario.Scenario) bool { return s.Kind == scenario.File }) {
		return r, nil
	}
	r.File = filepath.Join(dir, "file")
	return r, runner.WriteFile(r.File, o.fileSize)
}

// output collects what is printed and written.
type output struct {
	conditions []string
	left       []peers.LeftOut
	tables     []report.Table
	runs       []namedRuns
}

// namedRuns is the JSON form of a scenario's runs.
type namedRuns struct {
	Scenario string       `json:"scenario"`
	Runs     []report.Run `json:"runs"`
}

func (out *output) add(sc scenario.Scenario, runs []report.Run) {
	out.runs = append(out.runs, namedRuns{sc.Name, runs})
	out.tables = append(out.tables, report.NewTable(sc, runs, peers.Base))
}
