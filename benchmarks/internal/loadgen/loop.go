//go:build linux

package loadgen

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/hist"
	"github.com/gostrand/strand/benchmarks/internal/proc"
)

// stallLimit ends a run in which no answer has come for so long.
const stallLimit = 5 * time.Second

// An endpoint is one connection or socket of the client.
type endpoint interface {
	// ready is called when the descriptor is readable, or writable if asked for.
	ready(events uint32) error
	close()
}

// A loop owns everything: endpoints, counters and the clock. It runs on the
// calling goroutine, which never gives up its thread.
type loop struct {
	cfg       Config
	ep        *epoll
	pattern   pattern
	buf       []byte // received bytes, looked at at once and forgotten
	endpoints []endpoint

	start    time.Time
	now      time.Duration // since start, read at every wake-up and every answer
	progress time.Duration // when an operation last completed

	done    int64 // operations since the start
	ops     int64 // operations in the window
	lost    int64
	latency hist.Histogram
}

func newLoop(cfg Config) (*loop, error) {
	ep, err := newEpoll()
	if err != nil {
		return nil, err
	}
	return &loop{cfg: cfg, ep: ep, pattern: newPattern(), buf: make([]byte, maxChunk), start: time.Now()}, nil
}

func (l *loop) close() {
	for _, e := range l.endpoints {
		e.close()
	}
	syscall.Close(l.ep.fd)
}

// add registers an endpoint's descriptor under its number.
func (l *loop) add(fd int, e endpoint) error {
	l.endpoints = append(l.endpoints, e)
	return l.ep.add(fd, len(l.endpoints)-1)
}

// tick reads the clock.
func (l *loop) tick() time.Duration {
	l.now = time.Since(l.start)
	return l.now
}

// completed counts an operation that began at began.
func (l *loop) completed(began time.Duration) {
	l.done++
	l.ops++
	l.progress = l.now
	l.latency.Record(l.now - began)
}

// A pacer is asked in every round how long it can wait; nil waits for answers.
type pacer interface {
	tick() (next time.Duration, err error)
}

// run handles events until stop says so.
func (l *loop) run(p pacer, stop func() bool) error {
	l.progress = l.tick()
	for !stop() {
		wait := 20 * time.Millisecond // looks at the clock, lost datagrams and stalls
		if p != nil {
			next, err := p.tick()
			if err != nil {
				return err
			}
			wait = min(wait, next)
		}
		events := l.ep.wait(max(wait, 0))
		l.tick()
		for _, ev := range events {
			if err := l.endpoints[ev.Fd].ready(ev.Events); err != nil {
				return fmt.Errorf("connection %d: %w", ev.Fd, err)
			}
		}
		if l.now-l.progress > stallLimit {
			return fmt.Errorf("no answer for %v after %d operations", stallLimit, l.done)
		}
	}
	return nil
}

// runFor handles events for a time.
func (l *loop) runFor(p pacer, d time.Duration) error {
	end := l.tick() + d
	return l.run(p, func() bool { return l.now >= end })
}

// A mark is what the clocks showed at one edge of the window.
type mark struct {
	at             time.Duration
	server, client time.Duration
	machine        proc.Machine
}

func (l *loop) mark() (m mark, err error) {
	if l.cfg.PID != 0 {
		if m.server, err = proc.CPUTime(l.cfg.PID); err != nil {
			return m, err
		}
	}
	if m.client, err = proc.CPUTime(os.Getpid()); err != nil {
		return m, err
	}
	if m.machine, err = proc.ReadMachine(); err != nil {
		return m, err
	}
	m.at = l.tick()
	return m, nil
}

// measure runs the warm-up and the window.
func (l *loop) measure(warmup, window func() error) (Result, error) {
	if err := warmup(); err != nil {
		return Result{}, err
	}
	l.ops, l.lost = 0, 0
	l.latency.Reset()
	from, err := l.mark()
	if err != nil {
		return Result{}, err
	}
	if err := window(); err != nil {
		return Result{}, err
	}
	to, err := l.mark()
	if err != nil {
		return Result{}, err
	}
	return l.result(from, to), nil
}

func (l *loop) result(from, to mark) Result {
	machine := to.machine.Sub(from.machine)
	micros := func(q float64) float64 { return float64(l.latency.Quantile(q)) / 1e3 }
	return Result{
		Ops:       l.ops,
		Seconds:   (to.at - from.at).Seconds(),
		P50:       micros(0.50),
		P99:       micros(0.99),
		P999:      micros(0.999),
		ServerCPU: (to.server - from.server).Seconds(),
		ClientCPU: (to.client - from.client).Seconds(),
		Busy:      machine.Busy.Seconds(),
		Steal:     machine.Steal.Seconds(),
		Lost:      l.lost,
	}
}

// measureEndless is measure for a load that goes on by itself.
func (l *loop) measureEndless(p pacer) (Result, error) {
	return l.measure(
		func() error { return l.runFor(p, l.cfg.Warmup) },
		func() error { return l.runFor(p, l.cfg.Duration) },
	)
}

func eofIfZero(n int, err error) error {
	if err == nil && n == 0 {
		return io.EOF
	}
	return err
}

// blockingRead waits for bytes, but not for ever.
func blockingRead(fd int, p []byte) (int, error) {
	limit := syscall.NsecToTimeval(int64(stallLimit))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return 0, err
	}
	n, err := syscall.Read(fd, p)
	return max(n, 0), eofIfZero(n, err)
}
