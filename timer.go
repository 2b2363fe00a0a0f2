package strand

import "time"

// Timer is a call that CallLater has scheduled. asyncio: TimerHandle.
type Timer struct {
	d *dispatcher
	t *time.Timer

	fn func() // guarded by d.mu; nil once it was stopped or is about to run

	stop func() bool // of NewTimer, which has none of the above
}

// NewTimer returns a Timer whose Stop is stop. It is for the CallLater of
// transports made outside this package: fakes for tests, and wrappers. A nil stop
// is that of a stopped one.
func NewTimer(stop func() bool) *Timer {
	if stop == nil {
		stop = func() bool { return false }
	}
	return &Timer{stop: stop}
}

// Stop cancels the call. It returns true if fn will not run, and false if it
// has run, is running, or was stopped before. Called from a callback of the
// same connection there is nothing in between: after Stop returned, a func
// that has not started never does. A nil Timer is a stopped one. It may be
// called from any goroutine and does not block. asyncio: TimerHandle.cancel.
func (t *Timer) Stop() bool {
	if t == nil {
		return false
	}
	if t.stop != nil {
		return t.stop()
	}
	t.t.Stop()
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	return t.take() != nil
}

// take claims the func. The dispatcher's lock is held.
func (t *Timer) take() func() {
	fn := t.fn
	t.fn = nil
	delete(t.d.timers, t)
	return fn
}

// callLater schedules fn. On a connection that is past its end the Timer comes
// back stopped.
func (d *dispatcher) callLater(after time.Duration, fn func()) *Timer {
	t := &Timer{d: d, fn: fn}
	d.mu.Lock()
	defer d.mu.Unlock()
	t.t = time.AfterFunc(after, t.fire) // fire waits for the lock, so t is complete when it runs
	if d.sealed {
		t.t.Stop()
		t.fn = nil
		return t
	}
	if d.timers == nil {
		d.timers = make(map[*Timer]struct{})
	}
	d.timers[t] = struct{}{}
	return t
}

func (t *Timer) fire() { t.d.postTask(task{timer: t}) }
