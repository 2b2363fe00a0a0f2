package conformance

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// shortData is the longest data that a trace shows as text.
const shortData = 40

// A Trace is what happened in one run: a section of lines for each actor, in
// the order in which that actor produced them. Between actors it shows no
// order: that is for waits.
type Trace struct {
	mu       sync.Mutex
	sections map[string]*section
	frozen   bool
}

type section struct {
	trace *Trace
	name  string
	lines []*line
}

// A line is text, or received bytes that grow while nothing else is added.
// trace.mu guards it.
type line struct {
	trace  *Trace
	text   string
	isData bool
	data   []byte
}

func newTrace() *Trace { return &Trace{sections: make(map[string]*section)} }

func (t *Trace) section(name string) *section {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sections[name]
	if s == nil {
		s = &section{trace: t, name: name}
		t.sections[name] = s
	}
	return s
}

// freeze makes all later additions disappear: what happens while the stage is
// struck is no part of the trace.
func (t *Trace) freeze() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frozen = true
}

// add appends a line; its result may follow after later lines were added.
func (s *section) add(format string, args ...any) *line {
	l := &line{trace: s.trace, text: fmt.Sprintf(format, args...)}
	s.trace.mu.Lock()
	defer s.trace.mu.Unlock()
	if !s.trace.frozen {
		s.lines = append(s.lines, l)
	}
	return l
}

// data appends received bytes, to the line before where that is the same.
func (s *section) data(label string, data []byte) {
	s.trace.mu.Lock()
	defer s.trace.mu.Unlock()
	if s.trace.frozen {
		return
	}
	last := len(s.lines) - 1
	if last < 0 || !s.lines[last].isData || s.lines[last].text != label {
		s.lines = append(s.lines, &line{trace: s.trace, text: label, isData: true})
		last++
	}
	s.lines[last].data = append(s.lines[last].data, data...)
}

// result writes the outcome of an action behind it.
func (l *line) result(value any) {
	l.trace.mu.Lock()
	defer l.trace.mu.Unlock()
	l.text += fmt.Sprintf(" -> %v", value)
}

func (l *line) String() string {
	if l.isData {
		return l.text + " " + describe(l.data)
	}
	return l.text
}

// String returns the trace in the oracle's format.
func (t *Trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for name, s := range t.sections {
		if len(s.lines) > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(rankOf(a)+a, rankOf(b)+b)
	})
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "[%s]\n", name)
		for _, l := range t.sections[name].lines {
			fmt.Fprintln(&b, l)
		}
	}
	return b.String()
}

// rankOf orders sections: main, connections, peers, log.
func rankOf(name string) string {
	switch {
	case name == "main":
		return "0"
	case name == "log":
		return "3"
	case name[0] == 'c':
		return "1"
	}
	return "2"
}

// describe writes bytes as a length and, if short and printable, themselves.
func describe(data []byte) string {
	if len(data) == 0 {
		return "0"
	}
	if len(data) <= shortData && printable(data) {
		text := strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(string(data))
		return fmt.Sprintf("%d '%s'", len(data), text)
	}
	return fmt.Sprintf("%d sha256:%x", len(data), sha256.Sum256(data))[:len(fmt.Sprint(len(data)))+len(" sha256:")+16]
}

func printable(data []byte) bool {
	for _, c := range data {
		if (c < 0x20 || c > 0x7e) && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}
