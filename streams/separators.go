package streams

import (
	"bytes"
	"cmp"
	"slices"
)

// separators are what ReadUntil looks for, the shortest first. At least one,
// none of them empty.
type separators [][]byte

func newSeparators(given [][]byte) (separators, error) {
	if len(given) == 0 {
		return nil, errNoSeparator
	}
	for _, sep := range given {
		if len(sep) == 0 {
			return nil, errEmptySeparator
		}
	}
	if len(given) == 1 {
		return given, nil
	}
	sorted := slices.Clone(given)
	slices.SortStableFunc(sorted, func(a, b []byte) int { return cmp.Compare(len(a), len(b)) })
	return sorted, nil
}

func (s separators) longest() int { return len(s[len(s)-1]) }

// window is how far the first look for several separators goes.
const window = 256

// find returns where the match stands that ends earliest, and is the shortest
// of those that end there. No match begins before from. end is 0 if there is
// none.
//
// One separator that is far away, or is not there, must not cost a search of
// the whole buffer for each match of another one. So several are looked for in
// a window at the front, which doubles until it holds a match.
func (s separators) find(b []byte, from int) (start, end int) {
	if len(s) == 1 {
		if i := bytes.Index(b[from:], s[0]); i >= 0 {
			return from + i, from + i + len(s[0])
		}
		return 0, 0
	}
	for size := window; ; size *= 2 {
		hi := min(from+size, len(b))
		if start, end = s.findIn(b[:hi], from); end > 0 || hi == len(b) {
			return start, end
		}
		from = max(from, hi+1-s.longest())
	}
}

// findIn is find by a search for each of the separators.
func (s separators) findIn(b []byte, from int) (start, end int) {
	for _, sep := range s {
		if i := bytes.Index(b[from:], sep); i >= 0 {
			start, end = from+i, from+i+len(sep)
			b = b[:end-1] // a longer one has to end before
		}
	}
	return start, end
}
