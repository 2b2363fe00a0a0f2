//go:build linux

package main

import (
	"runtime"
	"testing"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

func TestNoiseCountsOthersAndSteal(t *testing.T) {
	cpus := float64(runtime.NumCPU())
	r := loadgen.Result{Seconds: 1, Busy: 0.6 * cpus, ServerCPU: 0.3 * cpus, ClientCPU: 0.2 * cpus, Steal: 0.05 * cpus}
	if got := noiseOf(r); got < 0.149 || got > 0.151 {
		t.Errorf("noise %v, want 0.10 of others and 0.05 of steal", got)
	}
	if got := shareOf(100*time.Millisecond, 200*time.Millisecond) * cpus; got != 0.5 {
		t.Errorf("half of one processor is %v of it", got)
	}
	r.Busy = 0
	if got := noiseOf(r); got < 0.049 || got > 0.051 {
		t.Errorf("noise %v: coarse ticks must not make it negative", got)
	}
}

func TestAServerThatDoesNothingHasFailed(t *testing.T) {
	m := measurement{options: options{noise: 1}}
	still := loadgen.Result{Seconds: 1, ServerCPU: 0.1}
	if run := m.run(scenario.Scenario{}, &turn{slices: []loadgen.Result{still, still}}); run.Err == "" {
		t.Errorf("%+v, want an error: there is nothing to divide by", run)
	}
	busy := loadgen.Result{Ops: 1, Seconds: 1}
	if run := m.run(scenario.Scenario{}, &turn{slices: []loadgen.Result{still, busy}}); run.Err != "" {
		t.Errorf("a server that paused has failed: %s", run.Err)
	}
}
