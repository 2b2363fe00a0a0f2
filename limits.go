package strand

import (
	"sync"
	"sync/atomic"
	"time"
)

// limits are the timers of a transport, of which they know only what they
// watch. Nothing is reset per message: a timer comes every quarter of its limit
// and compares a byte count with the last one.
type limits struct {
	cfg        *config
	mu         *sync.Mutex // the transport's; guards everything here
	life       *lifecycle
	sent       *int64        // bytes the kernel has taken
	arrived    *atomic.Int64 // bytes received
	writing    *bool         // a writer exists
	failLocked func(error)   // ends the connection

	close *time.Timer // runs while closing
	idle  stall       // no byte either way
	write stall       // a writer exists and the kernel takes nothing
}

// stall finds out that a count stands still.
type stall struct {
	limit time.Duration
	timer *time.Timer
	count int64
	quiet int // quarters of the limit since count has changed
}

// stop stops every timer. One whose func already waits for the transport's lock
// finds the end decided.
func (l *limits) stop() {
	if l == nil {
		return
	}
	if l.close != nil {
		l.close.Stop()
	}
	l.idle.stop()
	l.write.stop()
}

// startClose limits the time that a graceful close may take (CL-01).
func (l *limits) startClose() {
	if limit := l.cfg.closeTimeout; limit > 0 {
		l.close = time.AfterFunc(limit, func() { l.fail("close", limit) })
	}
}

// startShutdown limits the wait for the peer's close_notify (TL-10).
func (l *limits) startShutdown(limit time.Duration) {
	if l.close != nil {
		l.close.Stop()
	}
	l.close = time.AfterFunc(limit, func() { l.fail("shutdown", limit) })
}

func (st *stall) start(limit time.Duration, check func()) {
	if limit <= 0 {
		return
	}
	st.limit, st.quiet = limit, 0
	if st.timer == nil {
		st.timer = time.AfterFunc(st.quarter(), check)
	} else {
		st.timer.Reset(st.quarter())
	}
}

func (st *stall) quarter() time.Duration { return max(st.limit/4, 1) }

func (st *stall) stop() {
	if st.timer != nil {
		st.timer.Stop()
	}
}

// tick compares count with the last one and reports whether the limit is
// reached; if not, the timer runs on.
func (st *stall) tick(count int64) bool {
	if count != st.count {
		st.count, st.quiet = count, 0
	} else {
		st.quiet++
	}
	if st.quiet >= 4 {
		return true
	}
	st.timer.Reset(st.quarter())
	return false
}

func (l *limits) checkIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.life.phase < ended && l.idle.tick(*l.sent+l.arrived.Load()) {
		l.failLocked(&TimeoutError{Op: "idle", After: l.idle.limit})
	}
}

func (l *limits) checkWrite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.life.phase < ended && *l.writing && l.write.tick(*l.sent) {
		l.failLocked(&TimeoutError{Op: "write", After: l.write.limit})
	}
}

func (l *limits) fail(op string, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(&TimeoutError{Op: op, After: after})
}
