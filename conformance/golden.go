package conformance

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Expected returns what strand's trace must be: the golden trace with the
// scenario's deliberate differences applied.
func (s *Scenario) Expected() (string, error) {
	golden, err := os.ReadFile(s.TracePath())
	if err != nil {
		return "", err
	}
	sections := split(string(golden))
	for _, d := range s.Differs {
		i := slices.IndexFunc(sections, func(t *textSection) bool { return t.name == d.Actor })
		if i < 0 {
			i = len(sections)
			sections = append(sections, &textSection{name: d.Actor})
		}
		if err := sections[i].expect(d); err != nil {
			return "", fmt.Errorf("%s: differs (%s, %s): %w", s.Name, d.Row, d.Actor, err)
		}
	}
	slices.SortStableFunc(sections, func(a, b *textSection) int {
		return strings.Compare(rankOf(a.name)+a.name, rankOf(b.name)+b.name)
	})
	return join(sections), nil
}

// textSection is a section of a trace as text.
type textSection struct {
	name         string
	lines        []string
	replacements []replacement
}

// replacement says which lines of a section others take the place of.
type replacement struct {
	from, to int
	lines    []string
}

func split(trace string) []*textSection {
	var sections []*textSection
	for text := range strings.Lines(trace) {
		text = strings.TrimSuffix(text, "\n")
		if strings.HasPrefix(text, "[") {
			sections = append(sections, &textSection{name: strings.Trim(text, "[]")})
			continue
		}
		last := sections[len(sections)-1]
		last.lines = append(last.lines, text)
	}
	return sections
}

func join(sections []*textSection) string {
	var b strings.Builder
	for _, s := range sections {
		lines := s.replaced()
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", s.name)
		for _, text := range lines {
			fmt.Fprintln(&b, text)
		}
	}
	return b.String()
}

// expect notes the replacement of one difference's lines, which must stand
// exactly once in the section. A section that asyncio's trace lacks has none.
func (s *textSection) expect(d Difference) error {
	if len(s.lines) == 0 && len(d.Asyncio) == 0 {
		s.lines = d.Strand
		return nil
	}
	at, err := findOnce(s.lines, d.Asyncio)
	if err != nil {
		return err
	}
	s.replacements = append(s.replacements, replacement{at, at + len(d.Asyncio), d.Strand})
	return nil
}

// replaced returns the lines with all replacements made, the last one first so
// that the places of the others stay right.
func (s *textSection) replaced() []string {
	lines := slices.Clone(s.lines)
	slices.SortFunc(s.replacements, func(a, b replacement) int { return b.from - a.from })
	for _, r := range s.replacements {
		lines = slices.Replace(lines, r.from, r.to, r.lines...)
	}
	return lines
}

// findOnce returns where want stands in lines; it must stand there once.
func findOnce(lines, want []string) (int, error) {
	found := -1
	for at := 0; at+len(want) <= len(lines); at++ {
		if !slices.Equal(lines[at:at+len(want)], want) {
			continue
		}
		if found >= 0 || len(want) == 0 {
			return 0, fmt.Errorf("the lines %q stand there more than once", want)
		}
		found = at
	}
	if found < 0 {
		return 0, fmt.Errorf("the lines %q do not stand there", want)
	}
	return found, nil
}
