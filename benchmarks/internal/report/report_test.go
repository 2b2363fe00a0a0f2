package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/gostrand/strand/benchmarks/internal/loadgen"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

func echoScenario() scenario.Scenario {
	return scenario.Scenario{Name: "echo", Title: "Echo <64 B>", Unit: scenario.Unit{Rate: "req/s", Op: "request", Ops: 1},
		Load: loadgen.Config{Mode: loadgen.Echo}}
}

// run is one second with ops operations of cpu microseconds each.
func run(server string, round int, ops int64, cpu float64) Run {
	return Run{Server: server, Round: round, Result: loadgen.Result{
		Ops: ops, Seconds: 1, ServerCPU: cpu * float64(ops) / 1e6, P50: 10, P99: 20, P999: 30}}
}

func sampleRuns() []Run {
	failed := Run{Server: "fast", Round: 2, Err: "no\nanswer"}
	noisy := run("fast", 1, 2400, 4)
	noisy.Disturbed = true
	return []Run{
		run("net", 0, 1000, 10), run("fast", 0, 1500, 5),
		run("net", 1, 2000, 8), noisy,
		run("net", 2, 900, 10), failed,
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	table := NewTable(echoScenario(), sampleRuns(), "net")
	if len(table.Rows) != 2 || table.Rows[0].Server != "net" {
		t.Fatalf("rows %+v, want net and fast", table.Rows)
	}
	fast := table.Rows[1]
	if r := fast.Throughput.Ratio; r.Min != 1.2 || r.Max != 1.5 || r.N != 2 {
		t.Errorf("throughput ratio %+v, want 1.2 to 1.5 of two rounds", r)
	}
	if r := fast.CPU.Ratio.Median; math.Abs(r-0.5) > 1e-9 {
		t.Errorf("CPU ratio %v, want 0.5", r)
	}
	if fast.Rounds != 2 || fast.Disturbed != 1 || fast.Err == "" {
		t.Errorf("rounds %d, disturbed %d, error %q", fast.Rounds, fast.Disturbed, fast.Err)
	}
	if r := table.Rows[0].CPU.Ratio; r.Min != 1 || r.Max != 1 {
		t.Errorf("net against itself is %+v", r)
	}
}

func TestMarkdown(t *testing.T) {
	got := NewTable(echoScenario(), sampleRuns(), "net").Markdown()
	want := `### Echo <64 B>

| server | req/s | x net | p50 us | p99 us | p99 x net | p99.9 us | CPU us/request | CPU x net | remarks |
| --- | ----: | ----: | -----: | -----: | --------: | -------: | -------------: | --------: | --- |
| net | 1,000 | 1.00 (1.00-1.00) | 10.0 | 20.0 | 1.00 | 30.0 | 10.0 | 1.00 (1.00-1.00) |  |
| fast | 1,950 | 1.35 (1.20-1.50) | 10.0 | 20.0 | 1.00 | 30.0 | 4.50 | 0.50 (0.50-0.50) | 1 of 2 rounds disturbed; failed: no answer |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMemoryTable(t *testing.T) {
	sc := echoScenario()
	sc.Load.Mode = loadgen.Idle
	runs := []Run{
		{Server: "net", Result: loadgen.Result{Ops: 1, Seconds: 1, BytesPerConn: 69226}},
		{Server: "fast", Result: loadgen.Result{Ops: 1, Seconds: 1, BytesPerConn: 3461.3}},
	}
	got := NewTable(sc, runs, "net").Text()
	if !strings.Contains(got, "bytes/connection") || !strings.Contains(got, "69,226") || !strings.Contains(got, "0.05") {
		t.Errorf("memory table\n%s", got)
	}
}

func TestWithoutTheBaseThereAreNoRatios(t *testing.T) {
	got := NewTable(echoScenario(), []Run{run("fast", 0, 10, 1)}, "net").Text()
	if !strings.Contains(got, "fast") || strings.Contains(got, "NaN") {
		t.Errorf("table\n%s", got)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 1.234: "1.23", 99.96: "100.0", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567", -1234: "-1,234",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got := number(v); got != "-" {
			t.Errorf("no value is written %q", got)
		}
	}
}

func TestChartIsXMLWithOneDotPerServerAndPanel(t *testing.T) {
	runs := append(sampleRuns(), run("slow", 0, 100, 50))
	svg := SVG([]Table{NewTable(echoScenario(), runs, "net")}, "fast")
	decoder := xml.NewDecoder(strings.NewReader(svg))
	elements := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	// Three servers in the key; slow's CPU is off the scale.
	if elements["circle"] != 3+5 || elements["path"] != 1 {
		t.Errorf("%v, want 8 circles and 1 arrow", elements)
	}
	if !strings.Contains(svg, favouriteColour) {
		t.Error("the favourite is not drawn in its colour")
	}
}

func TestChartLeavesMemoryOut(t *testing.T) {
	sc := echoScenario()
	sc.Load.Mode = loadgen.Idle
	if svg := SVG([]Table{NewTable(sc, sampleRuns(), "net")}, "fast"); strings.Contains(svg, "Echo") {
		t.Error("a memory scenario is in the chart of speeds")
	}
}
