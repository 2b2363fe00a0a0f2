//go:build linux

package loadgen

import (
	"fmt"
	"io"
	"syscall"
	"time"
)

// fetch reads whole files, one after the other, until the time is over; the
// window always holds at least one. An operation is one MiB.
func (l *loop) fetch() (Result, error) {
	return l.measure(
		func() error { return l.fetchFor(l.cfg.Warmup) },
		func() error { return l.fetchFor(l.cfg.Duration) },
	)
}

func (l *loop) fetchFor(d time.Duration) error {
	end := l.tick() + d
	for {
		if err := l.fetchOne(); err != nil {
			return err
		}
		if l.tick() >= end {
			return nil
		}
	}
}

func (l *loop) fetchOne() error {
	fd, err := dial(l.cfg.Net, l.cfg.Addr, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	began := l.tick()
	var pos int64
	for {
		n, err := blockingRead(fd, l.buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", pos, err)
		}
		if err := l.pattern.check(uint64(pos), l.buf[:n]); err != nil {
			return err
		}
		pos += int64(n)
	}
	if pos != l.cfg.FileSize {
		return fmt.Errorf("got %d bytes of %d", pos, l.cfg.FileSize)
	}
	l.ops += pos >> 20
	l.latency.Record(l.tick() - began)
	return nil
}
