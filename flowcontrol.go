package strand

import "fmt"

// Rule of this file: pure state. No goroutine, no lock, no I/O, no clock. The
// owner of a flowControl calls it under its own lock.

// The default water marks, as in asyncio (FC-01).
const (
	defaultHighWater = 64 << 10
	defaultLowWater  = defaultHighWater / 4
)

// edge is a crossing of a water mark that the protocol has to hear of.
type edge uint8

const (
	noEdge edge = iota
	pauseEdge
	resumeEdge
)

// flowControl counts the output that a transport holds and decides when its
// protocol is to pause and to resume. Crossing a mark takes effect at once
// (writable), telling the protocol comes later, in turn: next hands out what
// is still to be told.
type flowControl struct {
	low, high int
	size      int
	paused    bool // the high mark was crossed and the low mark not reached since

	// What the protocol was not told yet. It is at most one pause followed by
	// one resume, so that a protocol whose callback blocks for an hour does
	// not find an hour of history behind it.
	owesPause, owesResume bool

	// told is that the protocol knows of a pause and not of its end. next alone
	// writes it, and whoever has the turn may read it without the lock, because
	// next is only called in turn.
	told bool

	holdResume bool // something else has to be told before a resume
}

// add counts n more bytes held (FC-04: strictly above the mark pauses).
func (f *flowControl) add(n int) {
	f.size += n
	f.checkHigh()
}

func (f *flowControl) checkHigh() {
	if f.paused || f.size <= f.high {
		return
	}
	f.paused = true
	if f.owesResume {
		// Behind a pause not told yet, or a resume not told yet, this pause
		// takes the place of the resume.
		f.owesResume = false
	} else {
		f.owesPause = true
	}
}

// sub counts n bytes gone, n > 0 (FC-07: only progress resumes).
func (f *flowControl) sub(n int) {
	f.size -= n
	if f.paused && f.size <= f.low {
		f.paused = false
		f.owesResume = true
	}
}

// setLimits sets the water marks; a negative one was not given (FC-02). On
// error the old marks stay (FC-03).
func (f *flowControl) setLimits(high, low int) error {
	switch {
	case high < 0 && low < 0:
		high, low = defaultHighWater, defaultLowWater
	case high < 0:
		high = 4 * low
	case low < 0:
		low = high / 4
	}
	if high < low {
		return fmt.Errorf("strand: high water mark %d must be at least the low water mark %d, and both at least 0", high, low)
	}
	f.high, f.low = high, low
	f.checkHigh()
	return nil
}

// due reports whether next would hand out an edge.
func (f *flowControl) due() bool { return f.owesPause || f.owesResume && !f.holdResume }

// next takes the next edge that the protocol has to be told.
func (f *flowControl) next() edge {
	switch {
	case f.owesPause:
		f.owesPause, f.told = false, true
		return pauseEdge
	case f.owesResume && !f.holdResume:
		f.owesResume, f.told = false, false
		return resumeEdge
	}
	return noEdge
}

// drop forgets the output and every edge not told: the connection ended before
// the output could go out (FC-10: no resume then).
func (f *flowControl) drop() {
	f.size = 0
	f.owesPause, f.owesResume = false, false
}

// writable reports whether the protocol may write without being paused.
func (f *flowControl) writable() bool { return !f.paused }
