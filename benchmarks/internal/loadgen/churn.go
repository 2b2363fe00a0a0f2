//go:build linux

package loadgen

import (
	"fmt"
	"syscall"
	"time"
)

// A visit is one of the connections of Churn: it connects, has one message
// echoed, closes, and begins again.
type visit struct {
	l        *loop
	id       int
	count    int // visits so far, which also picks the source address
	fd       int
	base     uint64
	received int
	began    time.Duration
}

func (v *visit) close() { syscall.Close(v.fd) }

// begin connects and sends. Both finish at once on loopback.
func (v *visit) begin() (err error) {
	v.began = v.l.tick()
	v.fd, err = dial(v.l.cfg.Net, v.l.cfg.Addr, v.id+v.count)
	if err != nil {
		return err
	}
	v.base = startOf(v.id + v.count*v.l.cfg.Conns)
	v.count++
	v.received = 0
	n, err := send(v.fd, v.l.pattern.at(v.base, v.l.cfg.Size))
	if err == nil && n != v.l.cfg.Size {
		err = fmt.Errorf("only %d bytes fit a new socket", n)
	}
	return err
}

func (v *visit) ready(uint32) error {
	n, err := recv(v.fd, v.l.buf)
	if err == errAgain {
		return nil
	}
	if err := eofIfZero(n, err); err != nil {
		return err
	}
	if v.received+n > v.l.cfg.Size {
		return errExcess
	}
	if err := v.l.pattern.check(v.base+uint64(v.received), v.l.buf[:n]); err != nil {
		return err
	}
	if v.received += n; v.received < v.l.cfg.Size {
		return nil
	}
	if err := syscall.Close(v.fd); err != nil {
		return err
	}
	v.l.tick() // the close belongs to the operation
	v.l.completed(v.began)
	if err := v.begin(); err != nil {
		return err
	}
	return v.l.ep.add(v.fd, v.id)
}

func (l *loop) churn() (Result, error) {
	for i := range l.cfg.Conns {
		v := &visit{l: l, id: i}
		if err := v.begin(); err != nil {
			return Result{}, err
		}
		if err := l.add(v.fd, v); err != nil {
			return Result{}, err
		}
	}
	return l.measureEndless(nil)
}
