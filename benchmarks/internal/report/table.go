package report

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/gostrand/strand/benchmarks/internal/stats"
)

// cells returns the table as text, header first.
func (t Table) cells() [][]string {
	if t.Scenario.Idle() {
		return t.memoryCells()
	}
	unit := t.Scenario.Unit
	cells := [][]string{{"server", unit.Rate, "x net", "p50 us", "p99 us", "p99 x net", "p99.9 us",
		"CPU us/" + unit.Op, "CPU x net", "remarks"}}
	for _, r := range t.Rows {
		cells = append(cells, []string{
			r.Server, number(r.Throughput.Value.Median), spread(r.Throughput.Ratio),
			number(r.P50.Value.Median), number(r.P99.Value.Median), ratio(r.P99.Ratio.Median), number(r.P999.Value.Median),
			number(r.CPU.Value.Median), spread(r.CPU.Ratio), r.remarks(),
		})
	}
	return cells
}

func (t Table) memoryCells() [][]string {
	cells := [][]string{{"server", "bytes/connection", "smallest", "largest", "x net", "remarks"}}
	for _, r := range t.Rows {
		m := r.Memory
		cells = append(cells, []string{r.Server, number(m.Value.Median), number(m.Value.Min), number(m.Value.Max),
			spread(m.Ratio), r.remarks()})
	}
	return cells
}

func (r Row) remarks() string {
	var all []string
	if r.Disturbed > 0 {
		all = append(all, fmt.Sprintf("%d of %d rounds disturbed", r.Disturbed, r.Rounds))
	}
	if r.Lost > 0 {
		all = append(all, fmt.Sprintf("%d datagrams lost", r.Lost))
	}
	if r.Err != "" {
		all = append(all, "failed: "+strings.Join(strings.Fields(r.Err), " "))
	}
	return strings.Join(all, "; ")
}

// Text returns the table for a terminal.
func (t Table) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", t.Scenario.Title, t.Scenario.Name)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range t.cells() {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // a strings.Builder never fails
	return b.String()
}

// Markdown returns the table with its heading.
func (t Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.Scenario.Title)
	cells := t.cells()
	rule := make([]string, len(cells[0]))
	for i, head := range cells[0] {
		rule[i] = strings.Repeat("-", max(3, utf8.RuneCountInString(head))-1) + ":"
	}
	rule[0], rule[len(rule)-1] = "---", "---" // words to the left, numbers to the right
	for i, row := range cells {
		if i == 1 {
			writeRow(&b, rule)
		}
		writeRow(&b, row)
	}
	return b.String()
}

func writeRow(b *strings.Builder, cells []string) {
	for _, c := range cells {
		fmt.Fprintf(b, "| %s ", strings.ReplaceAll(c, "|", `\|`))
	}
	b.WriteString("|\n")
}

// number keeps three significant digits or whole numbers with thousands
// separated, whichever is longer.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) >= 100:
		return thousands(int64(math.Round(v)))
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(v int64) string {
	if v < 0 {
		return "-" + thousands(-v)
	}
	if v < 1000 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%s,%03d", thousands(v/1000), v%1000)
}

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// spread shows a ratio's median and, with several rounds, its range.
func spread(s stats.Summary) string {
	if s.N < 2 {
		return ratio(s.Median)
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Min, s.Max)
}
