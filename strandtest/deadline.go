package strandtest

import (
	"sync"
	"time"
)

// deadline is a point in time that others can wait for on a channel, as in
// net.Pipe. The zero value is no deadline.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the deadline is past; replaced when a new one is set after that
}

// wait returns a channel that is closed when the deadline is past.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waitLocked()
}

func (d *deadline) waitLocked() chan struct{} {
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.expired
}

// past reports whether the deadline is past.
func (d *deadline) past() bool { return isClosed(d.wait()) }

// set sets the deadline; the zero Time means none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	ch := d.waitLocked()
	if isClosed(ch) {
		ch = make(chan struct{})
		d.expired = ch
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(ch)
		return
	}
	// A timer that was stopped too late closes a channel that nobody looks at
	// any more, or finds that it is not the current one.
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer && d.expired == ch {
			close(ch)
			d.timer = nil
		}
	})
	d.timer = timer
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
