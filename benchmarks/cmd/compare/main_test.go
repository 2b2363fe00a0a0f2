//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

func TestOptionsThatMeasureNothingAreRefused(t *testing.T) {
	good := options{scenarios: scenario.All(), rounds: 1, slices: 1, duration: time.Second, fileSize: 1 << 20}
	if err := good.check(); err != nil {
		t.Errorf("the least of everything is refused: %v", err)
	}
	for name, change := range map[string]func(*options){
		"unknown server":    func(o *options) { o.servers = []string{"nginx"} },
		"no scenario":       func(o *options) { o.scenarios = nil },
		"no round":          func(o *options) { o.rounds = 0 },
		"no slice":          func(o *options) { o.slices = 0 },
		"no window":         func(o *options) { o.duration = 0 },
		"negative warmup":   func(o *options) { o.warmup = -1 },
		"negative noise":    func(o *options) { o.noise = -1 },
		"no attempt":        func(o *options) { o.retries = -1 },
		"negative patience": func(o *options) { o.patience = -1 },
		"negative settle":   func(o *options) { o.settle = -1 },
		"less than a MiB":   func(o *options) { o.fileSize = 1<<20 - 1 },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
