//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gostrand/strand/benchmarks/internal/report"
)

// favourite is the server that the chart stresses.
const favourite = "strand"

// preamble says under which conditions the tables came about and what is
// missing from them. It is text and Markdown at once.
func (out *output) preamble() string {
	var b strings.Builder
	for _, c := range out.conditions {
		fmt.Fprintf(&b, "- %s\n", c)
	}
	for _, l := range out.left {
		fmt.Fprintf(&b, "- left out: %s: %s\n", l.Name, l.Reason)
	}
	b.WriteString("\n")
	return b.String()
}

// tryFiles finds out before all the work, and not after it, whether the files can
// be written. What is in them stays.
func (o options) tryFiles() error {
	for _, path := range []string{o.markdown, o.svg, o.json} {
		if path == "" {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		f.Close() // nothing was written
	}
	return nil
}

// write makes the files that were asked for. With nothing to say it leaves them as
// they are: they may hold what was measured earlier.
func (out *output) write(o options) error {
	if len(out.tables) == 0 {
		return nil
	}
	var markdown strings.Builder
	markdown.WriteString(out.preamble())
	for _, t := range out.tables {
		markdown.WriteString(t.Markdown() + "\n")
	}
	raw, err := json.MarshalIndent(out.runs, "", " ")
	return errors.Join(err,
		writeIfNamed(o.markdown, markdown.String()),
		writeIfNamed(o.svg, report.SVG(out.tables, favourite)),
		writeIfNamed(o.json, string(raw)),
	)
}

func writeIfNamed(path, content string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, []byte(content), 0o644)
}
