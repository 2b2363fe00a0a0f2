//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
	"github.com/gostrand/strand/benchmarks/internal/peers"
	"github.com/gostrand/strand/benchmarks/internal/report"
	"github.com/gostrand/strand/benchmarks/internal/runner"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

// A measurement runs scenarios, one after the other.
type measurement struct {
	options options
	runner  *runner.Runner
	servers []peers.Server
}

// scenario measures all servers, round after round.
func (m *measurement) scenario(ctx context.Context, sc scenario.Scenario) []report.Run {
	var runs []report.Run
	for round := range m.options.rounds {
		for _, t := range m.round(ctx, sc) {
			if ctx.Err() != nil {
				return runs
			}
			run := m.run(sc, t)
			run.Round = round
			logRun(sc, run, m.options.rounds)
			runs = append(runs, run)
		}
	}
	return runs
}

// A turn is what one server has done in a round.
type turn struct {
	server  string
	session *runner.Session // nil if it could not be started
	slices  []loadgen.Result
	err     error
}

// round measures every server once, with a fresh process of each. The servers
// take turns, slice after slice, A B C A B C, because a shared machine changes
// its speed within seconds: what it does then, it does to all of them.
func (m *measurement) round(ctx context.Context, sc scenario.Scenario) []*turn {
	var turns []*turn
	for _, server := range m.servers {
		if !server.Can(sc.Kind) {
			continue
		}
		t := &turn{server: server.Name}
		if t.session, t.err = m.runner.Start(ctx, sc, server); t.err == nil {
			defer t.session.Close()
		}
		turns = append(turns, t)
	}
	for range m.slices(sc) {
		for _, t := range turns {
			m.slice(ctx, sc, t)
		}
	}
	return turns
}

// slices is how many there are in a round. Memory does not change with the
// machine's speed.
func (m *measurement) slices(sc scenario.Scenario) int {
	if sc.Idle() {
		return 1
	}
	return m.options.slices
}

// slice loads a server until that was undisturbed, and settles for the least
// disturbed result when the attempts are used up.
func (m *measurement) slice(ctx context.Context, sc scenario.Scenario, t *turn) {
	var best loadgen.Result
	if t.err != nil {
		return
	}
	for attempt := range m.options.retries + 1 {
		if t.err = awaitQuiet(ctx, m.options.noise, m.options.patience); t.err != nil {
			return
		}
		var result loadgen.Result
		if result, t.err = t.session.Load(ctx); t.err != nil {
			return
		}
		if attempt == 0 || noiseOf(result) < noiseOf(best) {
			best = result
		}
		if !m.disturbed(sc, noiseOf(best)) {
			break
		}
	}
	t.slices = append(t.slices, best)
}

// run puts the slices of a turn together.
func (m *measurement) run(sc scenario.Scenario, t *turn) report.Run {
	if t.err != nil {
		return report.Run{Server: t.server, Err: t.err.Error()}
	}
	result := loadgen.Merge(t.slices)
	if result.Ops == 0 {
		return report.Run{Server: t.server, Err: "no operation was completed in the window"}
	}
	noise := noiseOf(result)
	return report.Run{Server: t.server, Result: result, Noise: noise, Disturbed: m.disturbed(sc, noise)}
}

// disturbed tells whether a run's figures suffer. Memory does not.
func (m *measurement) disturbed(sc scenario.Scenario, noise float64) bool {
	return noise > m.options.noise && !sc.Idle()
}

// noiseOf is the share of all processors' time that neither server nor client
// used: other processes, and other machines on the same hardware.
func noiseOf(r loadgen.Result) float64 {
	others := max(r.Busy-r.ServerCPU-r.ClientCPU, 0)
	return share(r, others) + stealOf(r)
}

func stealOf(r loadgen.Result) float64 { return share(r, r.Steal) }

func share(r loadgen.Result, seconds float64) float64 {
	return seconds / (r.Seconds * float64(runtime.NumCPU()))
}

func logRun(sc scenario.Scenario, run report.Run, rounds int) {
	what := run.Err
	switch r := run.Result; {
	case run.Err != "":
	case sc.Idle():
		what = fmt.Sprintf("%.0f bytes/connection", r.BytesPerConn)
	default:
		what = fmt.Sprintf("%.0f %s, server %.2f us/%s, others %.0f%%, steal %.0f%%", float64(r.Ops)/r.Seconds/sc.Unit.Ops, sc.Unit.Rate,
			r.ServerCPU*1e6/float64(r.Ops), sc.Unit.Op, (run.Noise-stealOf(r))*100, stealOf(r)*100)
	}
	fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %s\n", sc.Name, run.Round+1, rounds, run.Server, what)
}
