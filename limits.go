package strand

import "time"

// limits are the timers of a stream. Nothing is reset per message: a timer
// comes every quarter of its limit and compares a byte count with the last
// one.
type limits struct {
	s     *stream
	close *time.Timer // runs while closing
	idle  stall       // no byte either way
	write stall       // a writer exists and the kernel takes nothing
}

// stall finds out that a count stands still. The stream's lock guards it.
type stall struct {
	limit time.Duration
	timer *time.Timer
	count int64
	quiet int // quarters of the limit since count has changed
}

func (s *stream) limitsLocked() *limits {
	if s.limits == nil {
		s.limits = &limits{s: s}
	}
	return s.limits
}

// stop stops every timer. One whose func already waits for the stream's lock
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

// watchIdle starts the idle timer, if there is to be one.
func (s *stream) watchIdle() {
	if s.cfg.idleTimeout > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		l := s.limitsLocked()
		l.idle.start(s.cfg.idleTimeout, l.checkIdle)
	}
}

// startClose limits the time that a graceful close may take (CL-01).
func (l *limits) startClose() {
	limit := l.s.cfg.closeTimeout
	if limit > 0 {
		l.close = time.AfterFunc(limit, func() { l.s.fail(&TimeoutError{Op: "close", After: limit}) })
	}
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
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.life.phase < ended && l.idle.tick(l.s.sent+l.s.arrived.Load()) {
		l.s.failLocked(&TimeoutError{Op: "idle", After: l.idle.limit})
	}
}

func (l *limits) checkWrite() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.life.phase < ended && l.s.writing && l.write.tick(l.s.sent) {
		l.s.failLocked(&TimeoutError{Op: "write", After: l.write.limit})
	}
}
