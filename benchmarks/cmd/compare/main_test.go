//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/report"
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

func TestFilesAreTriedBeforeTheWork(t *testing.T) {
	dir := t.TempDir()
	earlier := filepath.Join(dir, "earlier.md")
	if err := os.WriteFile(earlier, []byte("measured"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options{markdown: earlier, json: filepath.Join(dir, "new.json")}
	if err := o.tryFiles(); err != nil {
		t.Errorf("files that can be written: %v", err)
	}
	o.svg = filepath.Join(dir, "missing", "chart.svg")
	if o.tryFiles() == nil {
		t.Error("a directory that is not there is accepted")
	}
	o.svg = ""
	content := func() string {
		b, _ := os.ReadFile(earlier)
		return string(b)
	}
	var out output
	if err := out.write(o); err != nil || content() != "measured" {
		t.Errorf("nothing was measured, and the file holds %q, %v", content(), err)
	}
	out.tables = []report.Table{{Scenario: scenario.All()[0]}}
	if err := out.write(o); err != nil || content() == "measured" {
		t.Errorf("the file still holds %q, %v", content(), err)
	}
}
