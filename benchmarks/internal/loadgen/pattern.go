//go:build linux

package loadgen

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
)

// Every connection sends an endless stream cut from one block of random bytes,
// each beginning elsewhere in it. The period is prime, so that no message size
// divides it and consecutive messages differ: an answer of another connection,
// of another message or cut wrongly does not match.
const patternPeriod = 65521

// maxChunk is the longest piece of the stream that lies in memory as a whole.
const maxChunk = 4 * maxSize

type pattern []byte

func newPattern() pattern {
	p := make(pattern, patternPeriod+maxChunk)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(p[:patternPeriod]) // never fails
	for i := patternPeriod; i < len(p); i++ {
		p[i] = p[i-patternPeriod]
	}
	return p
}

// at returns n bytes of the stream from position pos on; n is at most maxChunk.
func (p pattern) at(pos uint64, n int) []byte {
	off := pos % patternPeriod
	return p[off : off+uint64(n)]
}

// check compares what was received at pos with what was sent there.
func (p pattern) check(pos uint64, got []byte) error {
	if !bytes.Equal(got, p.at(pos, len(got))) {
		return fmt.Errorf("wrong bytes in the %d received at position %d", len(got), pos)
	}
	return nil
}

// startOf spreads the connections over the pattern.
func startOf(conn int) uint64 { return uint64(conn) * 7919 }

// WriteFile writes the content that Fetch expects.
func WriteFile(w io.Writer, size int64) error {
	p := newPattern()
	for pos := int64(0); pos < size; {
		n := min(size-pos, maxChunk)
		if _, err := w.Write(p.at(uint64(pos), int(n))); err != nil {
			return err
		}
		pos += n
	}
	return nil
}
