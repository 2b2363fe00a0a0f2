//go:build linux

package loadgen

import (
	"time"

	"github.com/gostrand/strand/benchmarks/internal/proc"
)

// rehearsal connections come and go before the server's memory is first read,
// so that what is paid once (code pages, caches) is not put on the connections.
const rehearsal = 16

func (l *loop) idle() (Result, error) {
	if err := l.rehearse(); err != nil {
		return Result{}, err
	}
	before, err := proc.RSS(l.cfg.PID)
	if err != nil {
		return Result{}, err
	}
	result, err := l.measure(
		func() error { return nil },
		func() error { _, err := l.openStreams(l.cfg.Conns); return err },
	)
	if err != nil {
		return Result{}, err
	}
	after, err := l.settledRSS()
	result.BytesPerConn = float64(after-before) / float64(l.cfg.Conns)
	return result, err
}

func (l *loop) rehearse() error {
	streams, err := l.openStreams(rehearsal)
	if err != nil {
		return err
	}
	for _, s := range streams {
		s.close()
	}
	l.endpoints = l.endpoints[:0]
	time.Sleep(min(l.cfg.Settle/10, 300*time.Millisecond))
	return nil
}

// settledRSS reads the server's memory after the settling time, in which a
// connection that the server closes is an error.
func (l *loop) settledRSS() (int64, error) {
	end := l.tick() + l.cfg.Settle
	err := l.run(nil, func() bool {
		l.progress = l.now // no answers are expected
		return l.now >= end
	})
	if err != nil {
		return 0, err
	}
	return proc.RSS(l.cfg.PID)
}
