// Package report turns the runs of a comparison into tables and a chart.
package report

import (
	"math"
	"slices"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
	"github.com/gostrand/strand/benchmarks/internal/stats"
)

// A Run is one measurement: a server under a scenario in one round.
type Run struct {
	Server    string
	Round     int // from 0
	Result    loadgen.Result
	Err       string  // empty if it succeeded
	Noise     float64 // share of the processors' time taken by others in the window
	Disturbed bool    // Noise stayed above the limit in all attempts
}

// A Figure is one quantity of a server over the rounds, and its ratio to the
// base server's in the same rounds.
type Figure struct{ Value, Ratio stats.Summary }

// A Row is one server under one scenario.
type Row struct {
	Server         string
	Throughput     Figure // in the scenario's unit
	P50, P99, P999 Figure // microseconds
	CPU            Figure // the server's microseconds per operation
	Memory         Figure // resident bytes per connection
	Rounds         int    // successful ones
	Disturbed      int    // of those
	Lost           int64  // datagrams, in all rounds
	Err            string // of the last failed round
}

// A Table is one scenario's rows.
type Table struct {
	Scenario scenario.Scenario
	Rows     []Row
}

// NewTable condenses the runs of one scenario, servers in order of appearance.
func NewTable(sc scenario.Scenario, runs []Run, base string) Table {
	t := Table{Scenario: sc}
	for _, server := range serversOf(runs) {
		t.Rows = append(t.Rows, newRow(sc, runs, server, base))
	}
	return t
}

func serversOf(runs []Run) []string {
	var names []string
	for _, r := range runs {
		if !slices.Contains(names, r.Server) {
			names = append(names, r.Server)
		}
	}
	return names
}

func newRow(sc scenario.Scenario, runs []Run, server, base string) Row {
	figure := func(quantity func(loadgen.Result) float64) Figure {
		values := series(runs, server, quantity)
		return Figure{stats.Summarize(values), stats.Summarize(stats.Ratios(values, series(runs, base, quantity)))}
	}
	row := Row{
		Server:     server,
		Throughput: figure(func(r loadgen.Result) float64 { return float64(r.Ops) / r.Seconds / sc.Unit.Ops }),
		P50:        figure(func(r loadgen.Result) float64 { return r.P50 }),
		P99:        figure(func(r loadgen.Result) float64 { return r.P99 }),
		P999:       figure(func(r loadgen.Result) float64 { return r.P999 }),
		CPU:        figure(func(r loadgen.Result) float64 { return r.ServerCPU * 1e6 / float64(r.Ops) }),
		Memory:     figure(func(r loadgen.Result) float64 { return r.BytesPerConn }),
	}
	for _, r := range runs {
		if r.Server == server {
			row.count(r)
		}
	}
	return row
}

func (row *Row) count(r Run) {
	if r.Err != "" {
		row.Err = r.Err
		return
	}
	row.Rounds++
	row.Lost += r.Result.Lost
	if r.Disturbed {
		row.Disturbed++
	}
}

// series returns one value for each round, NaN where there is none.
func series(runs []Run, server string, quantity func(loadgen.Result) float64) []float64 {
	var values []float64
	for _, r := range runs {
		for len(values) <= r.Round {
			values = append(values, math.NaN())
		}
		if r.Server == server && r.Err == "" {
			values[r.Round] = quantity(r.Result)
		}
	}
	return values
}
