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

// scenario runs all servers in turn, round after round: A B C A B C, so that
// what changes on the machine over minutes changes for all of them.
func (m *measurement) scenario(ctx context.Context, sc scenario.Scenario) []report.Run {
	var runs []report.Run
	for round := range m.options.rounds {
		for _, server := range m.servers {
			if !server.Can(sc.Kind) {
				continue
			}
			run := m.repeat(ctx, sc, server)
			run.Round = round
			if ctx.Err() != nil {
				return runs
			}
			logRun(sc, run, m.options.rounds)
			runs = append(runs, run)
		}
	}
	return runs
}

// repeat runs one server until a run is undisturbed, and settles for the
// least disturbed one when the attempts are used up.
func (m *measurement) repeat(ctx context.Context, sc scenario.Scenario, server peers.Server) report.Run {
	var best report.Run
	for attempt := 0; attempt <= m.options.retries; attempt++ {
		if err := awaitQuiet(ctx, m.options.noise, m.options.patience); err != nil {
			return report.Run{Server: server.Name, Err: err.Error()}
		}
		result, err := m.runner.Run(ctx, sc, server)
		if err != nil {
			return report.Run{Server: server.Name, Err: err.Error()}
		}
		noise := noiseOf(result)
		if attempt == 0 || noise < best.Noise {
			best = report.Run{Server: server.Name, Result: result, Noise: noise, Disturbed: m.disturbed(sc, noise)}
		}
		if !best.Disturbed {
			break
		}
	}
	return best
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
