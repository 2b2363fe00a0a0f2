package report

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/gostrand/strand/benchmarks/internal/stats"
)

// The chart has one line for each scenario and two panels: throughput and the
// server's CPU time per operation, both relative to the base server. A dot is
// one server's median.
const (
	labelWidth  = 330
	panelWidth  = 330
	panelGap    = 30
	lineHeight  = 26
	topMargin   = 64
	keyHeight   = 24
	keyColumns  = 6
	chartWidth  = labelWidth + 2*panelWidth + panelGap + 20
	axisMaximum = 2.0 // what lies beyond is drawn as an arrow at the edge
)

// colours of the servers, by order of appearance after the favourite.
var colours = []string{"#999999", "#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#000000", "#98df8a"}

const favouriteColour = "#d62728"

type panel struct {
	title string
	left  int
	ratio func(Row) stats.Summary
}

type chart struct {
	b         strings.Builder
	tables    []Table
	favourite string
	servers   []string
}

// SVG draws the tables that measure speed; the favourite's dots are larger.
func SVG(tables []Table, favourite string) string {
	c := &chart{favourite: favourite}
	var runs []Run
	for _, t := range tables {
		if t.Scenario.Idle() {
			continue
		}
		c.tables = append(c.tables, t)
		for _, r := range t.Rows {
			runs = append(runs, Run{Server: r.Server})
		}
	}
	c.servers = serversOf(runs)
	return c.draw()
}

func (c *chart) draw() string {
	bottom := topMargin + len(c.tables)*lineHeight
	height := bottom + 30 + keyHeight*((len(c.servers)+keyColumns-1)/keyColumns)
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, height)
	fmt.Fprintf(&c.b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	for i, t := range c.tables {
		c.text(labelWidth-12, lineY(i)+4, "end", t.Scenario.Title)
	}
	c.panel(panel{"throughput relative to net (more is better)", labelWidth, func(r Row) stats.Summary { return r.Throughput.Ratio }}, bottom)
	c.panel(panel{"server CPU per operation relative to net (less is better)", labelWidth + panelWidth + panelGap, func(r Row) stats.Summary { return r.CPU.Ratio }}, bottom)
	c.key(bottom + 36)
	c.b.WriteString("</svg>\n")
	return c.b.String()
}

func lineY(i int) int { return topMargin + i*lineHeight + lineHeight/2 }

func (c *chart) text(x, y int, anchor, s string) {
	fmt.Fprintf(&c.b, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

func (p panel) x(v float64) float64 {
	return float64(p.left) + min(v, axisMaximum)/axisMaximum*panelWidth
}

func (c *chart) panel(p panel, bottom int) {
	c.text(p.left+panelWidth/2, topMargin-38, "middle", p.title)
	for _, v := range []float64{0, 0.5, 1, 1.5, 2} {
		colour := "#dddddd"
		if v == 1 {
			colour = "#555555"
		}
		fmt.Fprintf(&c.b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/>`+"\n", p.x(v), p.x(v), topMargin-8, bottom, colour)
		c.text(int(p.x(v)), topMargin-14, "middle", fmt.Sprint(v))
	}
	for i, t := range c.tables {
		c.line(p, lineY(i), t.Rows)
	}
}

// line draws the favourite last, on top of the others.
func (c *chart) line(p panel, y int, rows []Row) {
	var last *Row
	for i, r := range rows {
		if r.Server == c.favourite {
			last = &rows[i]
			continue
		}
		c.dot(r.Server, p.x, p.ratio(r), y, 4.5)
	}
	if last != nil {
		c.dot(last.Server, p.x, p.ratio(*last), y, 7)
	}
}

func (c *chart) dot(server string, x func(float64) float64, s stats.Summary, y int, radius float64) {
	switch {
	case math.IsNaN(s.Median):
		return
	case s.Median > axisMaximum:
		edge := x(axisMaximum)
		fmt.Fprintf(&c.b, `<path d="M%.1f %.1f l%.1f %.1f l%.1f %.1f z" fill="%s"><title>%s</title></path>`+"\n",
			edge-radius, float64(y)-radius, 2*radius, radius, -2*radius, radius, c.colour(server), html.EscapeString(caption(server, s)))
	default:
		fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%d" r="%.1f" fill="%s" fill-opacity="0.85"><title>%s</title></circle>`+"\n",
			x(s.Median), y, radius, c.colour(server), html.EscapeString(caption(server, s)))
	}
}

func caption(server string, s stats.Summary) string { return server + " " + spread(s) }

func (c *chart) colour(server string) string {
	if server == c.favourite {
		return favouriteColour
	}
	n := 0
	for _, s := range c.servers {
		if s == server {
			break
		}
		if s != c.favourite {
			n++
		}
	}
	return colours[n%len(colours)]
}

func (c *chart) key(top int) {
	const width = chartWidth / keyColumns
	for i, s := range c.servers {
		x, y := 20+i%keyColumns*width, top+i/keyColumns*keyHeight
		fmt.Fprintf(&c.b, `<circle cx="%d" cy="%d" r="5" fill="%s"/>`+"\n", x, y-4, c.colour(s))
		c.text(x+10, y, "start", s)
	}
}
