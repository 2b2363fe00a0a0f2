package strand

import (
	"slices"
	"sync"
	"time"
)

// callbackOwner is what a dispatcher needs to know of the transport whose
// callbacks it runs.
type callbackOwner interface {
	// runUrgent runs the callbacks that go before all others: those for the
	// water marks. It is called by whoever has the turn.
	runUrgent()

	// callbackFailed ends the connection because of a panicking callback.
	callbackFailed(err *PanicError)
}

// dispatcher is the serialiser of a connection: whoever has the turn runs
// callbacks, everybody else queues. It has no goroutine of its own. A reader
// goroutine takes the turn with enter, runs its callback, and on leave runs
// what was queued meanwhile. What is queued while nobody has the turn is run
// by a goroutine made for it.
//
// The order on leave: water-mark edges, errors of datagrams that were to be
// sent, posted funcs and timers in the order they came, then the next goroutine
// that waits in enter. Only what is queued when leave begins is run by it, so
// that a func that posts itself again and again holds up nobody.
type dispatcher struct {
	owner callbackOwner
	cfg   *config

	mu      sync.Mutex
	busy    bool            // a goroutine has the turn
	urgent  bool            // the owner's runUrgent is to be called
	sealed  bool            // ConnectionLost is next or past: nothing is posted any more
	posted  []task          // CallSoon and timers that fired, oldest first, behind what was posted first
	waiting []chan struct{} // goroutines in enter, longest waiting first; closed to give the turn
	timers  map[*Timer]struct{}
}

// task is one posted func, or a timer that has fired.
type task struct {
	fn    func()
	timer *Timer
}

// enter takes the turn, waiting for it if need be.
func (d *dispatcher) enter() {
	d.mu.Lock()
	if !d.busy {
		d.busy = true
		d.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	d.waiting = append(d.waiting, turn)
	d.mu.Unlock()
	<-turn
}

// leave runs what was queued during the turn and gives the turn up.
func (d *dispatcher) leave() {
	d.mu.Lock()
	if !d.urgent && len(d.posted) == 0 && len(d.waiting) == 0 {
		d.busy = false
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	d.runQueued()
	if !d.handOver() {
		go d.drain()
	}
}

// leaveAnyhow is leave for deferred calls: if a func that it runs calls
// runtime.Goexit, the turn and the queue live on elsewhere.
func (d *dispatcher) leaveAnyhow() {
	left := false
	defer func() {
		if !left {
			go d.drain()
		}
	}()
	d.leave()
	left = true
}

// drain is the goroutine made for queued work while nobody has the turn. It
// starts with the turn, and ends when somebody else has it or nothing is left.
func (d *dispatcher) drain() {
	alive := false
	defer func() {
		if !alive { // a callback called runtime.Goexit; the turn and the queue live on
			go d.drain()
		}
	}()
	for {
		d.runQueued()
		if d.handOver() {
			alive = true
			return
		}
	}
}

// handOver gives the turn to the next in line, or up if there is nothing to
// do. It returns false, and keeps the turn, if only queued work is left.
func (d *dispatcher) handOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) > 0 && !d.urgent {
		close(d.waiting[0])
		d.waiting = popFront(d.waiting)
		return true
	}
	if d.urgent || len(d.posted) > 0 {
		return false
	}
	d.busy = false
	return true
}

// runQueued runs the edges, and the funcs that are queued now. The caller has
// the turn.
func (d *dispatcher) runQueued() {
	d.mu.Lock()
	n := len(d.posted)
	d.mu.Unlock()
	d.runEdges()
	for ; n > 0; n-- {
		if fn := d.nextTask(); fn != nil {
			d.run(fn)
		}
		d.runEdges()
	}
}

func (d *dispatcher) runEdges() {
	d.mu.Lock()
	urgent := d.urgent
	d.urgent = false
	d.mu.Unlock()
	if urgent {
		d.owner.runUrgent()
	}
}

func (d *dispatcher) nextTask() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.posted[0]
	d.posted = popFront(d.posted)
	if t.timer != nil {
		return t.timer.take()
	}
	return t.fn
}

// popFront removes the first element, and lets go of the memory of a slice
// that became empty: an idle connection shall hold none.
func popFront[T any](s []T) []T {
	if len(s) == 1 {
		return nil
	}
	var zero T
	s[0] = zero
	return s[1:]
}

// post queues fn and reports whether it will run.
func (d *dispatcher) post(fn func()) bool { return d.postTask(task{fn: fn}) }

// postFirst is post for what has to come before all that is queued, except the
// edges.
func (d *dispatcher) postFirst(fn func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealed {
		return false
	}
	d.posted = slices.Insert(d.posted, 0, task{fn: fn})
	d.wakeLocked()
	return true
}

func (d *dispatcher) postTask(t task) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealed {
		return false
	}
	d.posted = append(d.posted, t)
	d.wakeLocked()
	return true
}

// signalUrgent has the owner's runUrgent called in turn.
func (d *dispatcher) signalUrgent() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.urgent = true
	d.wakeLocked()
}

func (d *dispatcher) wakeLocked() {
	if !d.busy {
		d.busy = true
		go d.drain()
	}
}

// seal runs what is queued, for the last time, stops the timers and has post
// refuse everything from then on. The caller has the turn and keeps it.
func (d *dispatcher) seal() {
	d.mu.Lock()
	d.sealed = true
	timers := d.timers
	d.timers = nil
	d.mu.Unlock()
	for t := range timers {
		t.t.Stop()
	}
	d.runLast()
}

// runLast is runQueued that survives runtime.Goexit in what it runs: nothing
// that was accepted may be left for later.
func (d *dispatcher) runLast() {
	done := false
	defer func() {
		if !done {
			d.runLast()
		}
	}()
	d.runQueued()
	done = true
}

// run runs one callback, which may panic, and in Debug times it.
func (d *dispatcher) run(fn func()) {
	d.protect(d.timed(fn))
}

// protect turns a panic of fn, or its call of runtime.Goexit, into the end of
// the connection. After Goexit the goroutine still ends: callers that have
// more to do see to that in a deferred function of their own.
func (d *dispatcher) protect(fn func()) {
	completed := false
	defer func() {
		if !completed {
			d.owner.callbackFailed(newPanicError(recover()))
		}
	}()
	fn()
	completed = true
}

// timed wraps fn to log it if it is slow, in Debug (DB-01).
func (d *dispatcher) timed(fn func()) func() {
	if d.cfg.slow <= 0 {
		return fn
	}
	return func() {
		start := time.Now()
		defer d.logSlow(start)
		fn()
	}
}

func (d *dispatcher) logSlow(start time.Time) {
	if took := time.Since(start); took >= d.cfg.slow {
		d.cfg.log.Warn("strand: slow callback", "took", took, "transport", d.owner)
	}
}
