//go:build linux

package loadgen

import (
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// ringSize is how many messages of one connection may be unanswered. A paced
// client goes on when answers are late, as users do.
func (l *loop) ringSize() int {
	if l.cfg.Rate > 0 {
		return 1024
	}
	return l.cfg.Depth
}

// A pace sends one message on every connection in each period, each connection
// at its own moment of it. The moments are random, so that messages sometimes
// come close together and sometimes far apart, and they are the same in every run.
type pace struct {
	l       *loop
	streams []*stream
	phases  []time.Duration // ascending, one for each stream
	period  time.Duration
	cycle   time.Duration // when the current period began
	next    int           // stream whose turn it is
}

func newPace(l *loop, streams []*stream) *pace {
	period := time.Duration(float64(time.Second) * float64(len(streams)) / l.cfg.Rate)
	random := rand.New(rand.NewPCG(1, 2))
	phases := make([]time.Duration, len(streams))
	for i := range phases {
		phases[i] = time.Duration(random.Int64N(int64(period)))
	}
	slices.Sort(phases)
	return &pace{l: l, streams: streams, phases: phases, period: period, cycle: l.now}
}

var errTooSlow = errors.New("the server does not keep up with the rate")

// tick sends every message that is due and returns the time until the next.
func (p *pace) tick() (time.Duration, error) {
	for {
		due := p.cycle + p.phases[p.next]
		now := p.l.tick()
		if due > now {
			return due - now, nil
		}
		s := p.streams[p.next]
		if s.inFlight() == len(s.began) {
			return 0, errTooSlow
		}
		if err := s.begin(1, due); err != nil {
			return 0, err
		}
		if p.next++; p.next == len(p.streams) {
			p.next = 0
			p.cycle += p.period
		}
	}
}

const prSetTimerslack = 29

func (l *loop) paced(streams []*stream) (Result, error) {
	// The kernel rounds waits up by 50 us to save wake-ups, as much as the
	// time between two messages.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0); errno != 0 {
		return Result{}, errno
	}
	l.tick()
	return l.measureEndless(newPace(l, streams))
}
