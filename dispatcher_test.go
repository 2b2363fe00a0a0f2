package strand

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// journal is a callbackOwner that writes down what happens to it.
type journal struct {
	d *dispatcher

	mu       sync.Mutex
	lines    []string
	failures []*PanicError
	onUrgent func()
}

func newJournal() *journal {
	j := &journal{d: new(dispatcher)}
	j.d.owner, j.d.cfg = j, &config{log: slog.New(slog.DiscardHandler)}
	return j
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// note returns a func that adds line.
func (j *journal) note(line string) func() { return func() { j.add(line) } }

func (j *journal) runUrgent() {
	j.add("edge")
	if j.onUrgent != nil {
		j.d.run(j.onUrgent)
	}
}

func (j *journal) callbackFailed(err *PanicError) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = append(j.failures, err)
}

// want compares the lines so far.
func (j *journal) want(t *testing.T, why string, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	require.Equal(t, lines, j.lines, why)
}

// The dispatcher's tests run in bubbles: Wait returns when everybody waits, and
// so tells what has not happened.
func dispatcherTest(t *testing.T, test func(t *testing.T, j *journal)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newJournal()) })
}

// The order on leave: the edges, then what was posted, oldest first, then the
// next goroutine in line.
func TestOrderOnLeave(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		d.enter()
		go func() {
			d.enter()
			j.add("reader")
			d.leave()
		}()
		synctest.Wait()
		d.post(j.note("one"))
		d.post(j.note("two"))
		d.signalUrgent()
		j.add("callback")
		d.leave()
		synctest.Wait()
		j.want(t, "edges first", "callback", "edge", "one", "two", "reader")
	})
}

// An edge that a posted func causes comes right after that func.
func TestEdgeBetweenPosted(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		j.d.enter()
		j.d.post(func() { j.add("one"); j.d.signalUrgent() })
		j.d.post(j.note("two"))
		j.d.leave()
		synctest.Wait()
		j.want(t, "before any other event", "one", "edge", "two")
	})
}

// A func that posts itself for ever runs once per turn: whoever waits gets the
// turn in between.
func TestSelfPostingStarvesNobody(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		var stop atomic.Bool
		var again func()
		again = func() {
			if !stop.Load() {
				d.post(again)
			}
		}
		d.post(again)
		for range 100 {
			d.enter()
			d.leave()
		}
		stop.Store(true)
	})
}

// Without a turn, posted work has a goroutine of its own, and none when it is
// done: goleak and the bubble see to that.
func TestPostedRunsWithoutATurn(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		j.d.signalUrgent()
		require.True(t, j.d.post(j.note("one")))
		synctest.Wait()
		j.want(t, "in order", "edge", "one")
		require.False(t, j.d.busy)
		require.Nil(t, j.d.posted, "an idle dispatcher holds no memory")
	})
}

// One turn at a time, the goroutines in enter in their order.
func TestEnterWaitsInOrder(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		d.enter()
		for _, name := range []string{"first", "second", "third"} {
			go func() {
				d.enter()
				j.add(name)
				time.Sleep(time.Second) // with the turn; nobody else may come
				j.add(name + " done")
				d.leave()
			}()
			synctest.Wait() // it is in line
		}
		j.want(t, "none has the turn", nil...)
		d.leave()
		time.Sleep(time.Minute)
		j.want(t, "one after the other",
			"first", "first done", "second", "second done", "third", "third done")
	})
}

// Posting from a running func does not nest.
func TestPostedDoesNotNest(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		j.d.post(func() {
			j.d.post(j.note("inner"))
			j.add("outer")
		})
		synctest.Wait()
		j.want(t, "after it", "outer", "inner")
	})
}

// True is a promise, and so is false: seal runs what was accepted, and nothing
// is accepted after it.
func TestSeal(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		d.enter()
		require.True(t, d.post(func() {
			j.add("accepted")
			require.False(t, d.post(j.note("refused")), "from the moment of seal")
		}))
		d.seal()
		j.want(t, "before seal returns", "accepted")
		require.False(t, d.post(j.note("refused")))
		d.leave()
		synctest.Wait()
		j.want(t, "nothing more", "accepted")
	})
}

// Posting from everywhere while the dispatcher is sealed: each func for which
// post said true has run by then, no other ever.
func TestSealAgainstPost(t *testing.T) {
	for range 200 {
		j := newJournal()
		var accepted, ran atomic.Int64
		var posters sync.WaitGroup
		for range 4 {
			posters.Go(func() {
				for j.d.post(func() { ran.Add(1) }) {
					accepted.Add(1)
					runtime.Gosched()
				}
			})
		}
		runtime.Gosched()
		j.d.enter()
		j.d.seal()
		count := ran.Load()
		j.d.leave()
		posters.Wait()
		require.Equal(t, accepted.Load(), ran.Load())
		require.Equal(t, count, ran.Load(), "seal has run them all")
	}
}

// A panic is caught, reported once, and harms neither the queue nor the turn.
func TestPanicInPosted(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		boom := errors.New("boom")
		j.d.enter()
		j.d.post(func() { panic(boom) })
		j.d.post(j.note("next"))
		j.d.leave()
		synctest.Wait()
		j.want(t, "the queue goes on", "next")
		require.Len(t, j.failures, 1)
		require.Equal(t, boom, j.failures[0].Value)
		require.ErrorIs(t, j.failures[0], boom)
		j.d.enter()
		j.d.leave()
	})
}

// goexits are the places in which a func may be when it calls runtime.Goexit;
// each loses the goroutine it runs on.
var goexits = map[string]func(j *journal, exit func()){
	"on leave": func(j *journal, exit func()) {
		go func() { // the caller of leave is lost as well
			defer func() { go j.d.drain() }() // as the reader does, see stream.dropTurn
			j.d.enter()
			j.d.post(exit)
			j.d.post(j.note("next"))
			j.d.leave()
		}()
	},
	"on a deferred leave": func(j *journal, exit func()) {
		go func() {
			defer j.d.leaveAnyhow()
			j.d.enter()
			j.d.post(exit)
			j.d.post(j.note("next"))
		}()
	},
	"in drain": func(j *journal, exit func()) {
		j.d.post(func() {
			j.d.post(exit)
			j.d.post(j.note("next"))
		})
	},
	"as an edge": func(j *journal, exit func()) {
		j.onUrgent = exit
		j.d.signalUrgent()
		j.d.post(j.note("next"))
	},
	"in seal": func(j *journal, exit func()) {
		go func() {
			defer j.d.leaveAnyhow()
			defer j.add("lost")
			j.d.enter()
			j.d.post(exit)
			j.d.post(j.note("next"))
			j.d.post(exit)
			j.d.post(j.note("last"))
			j.d.seal()
		}()
	},
}

// Goexit is a failure of the callback too. The turn goes on elsewhere, and with
// it what was queued.
func TestGoexitInPosted(t *testing.T) {
	for name, run := range goexits {
		t.Run(name, func(t *testing.T) {
			dispatcherTest(t, func(t *testing.T, j *journal) {
				run(j, runtime.Goexit)
				synctest.Wait()
				require.Contains(t, j.lines, "next")
				require.NotEmpty(t, j.failures)
				require.ErrorIs(t, j.failures[0], errGoexit)
				j.d.enter() // the turn is free
				j.d.leave()
				if name == "in seal" {
					require.Equal(t, []string{"next", "last", "lost"}, j.lines, "nothing that was accepted comes after the end")
				}
			})
		})
	}
}

// A timer runs its func in turn, in the order of the due times, and waits for
// the turn like anything that is posted.
func TestCallLater(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		d.callLater(2*time.Hour, j.note("second"))
		d.callLater(time.Hour, j.note("first"))
		time.Sleep(time.Hour - 1)
		synctest.Wait()
		j.want(t, "too early", nil...)
		d.enter()
		time.Sleep(time.Hour + 1)
		synctest.Wait()
		j.want(t, "somebody has the turn", nil...)
		d.leave()
		synctest.Wait()
		j.want(t, "in turn", "first", "second")
		require.Empty(t, d.timers)
	})
}

// Stop is true exactly if the func will not run because of it. Between firing
// and its turn a func can still be stopped.
func TestTimerStop(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		early := d.callLater(time.Hour, j.note("never"))
		require.True(t, early.Stop())
		require.False(t, early.Stop(), "stopped before")

		d.enter()
		fired := d.callLater(time.Hour, j.note("never"))
		time.Sleep(2 * time.Hour)
		synctest.Wait() // it is queued
		require.True(t, fired.Stop())
		d.leave()

		self := make(chan *Timer, 1)
		late := d.callLater(time.Hour, func() {
			j.add("ran")
			require.False(t, (<-self).Stop(), "it is running")
		})
		self <- late
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.False(t, late.Stop(), "it has run")
		j.want(t, "one ran", "ran")
		require.False(t, (*Timer)(nil).Stop(), "a nil Timer is a stopped one")
		require.Empty(t, d.timers)
	})
}

// seal stops the timers, and a timer made after it never starts.
func TestSealStopsTimers(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		d := j.d
		waiting := d.callLater(time.Hour, j.note("never"))
		d.enter()
		d.seal()
		d.leave()
		late := d.callLater(time.Hour, j.note("never"))
		require.False(t, late.Stop(), "it comes back stopped")
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Empty(t, j.lines)
		require.Empty(t, d.timers)
		waiting.Stop()
	})
}

// A timer that has fired before seal is an accepted func like any other.
func TestFiredTimerRunsBeforeSealReturns(t *testing.T) {
	dispatcherTest(t, func(t *testing.T, j *journal) {
		j.d.enter()
		j.d.callLater(time.Hour, j.note("fired"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		j.d.seal()
		j.want(t, "before the end", "fired")
		j.d.leave()
	})
}

// Only one goroutine at a time has the turn, whatever is posted and entered.
func TestTurnIsExclusive(t *testing.T) {
	j := newJournal()
	inside := 0 // the race detector watches it
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				j.d.enter()
				inside++
				j.d.leave()
				wg.Add(1)
				j.d.post(func() { inside++; wg.Done() })
				j.d.signalUrgent()
			}
		})
	}
	wg.Wait()
	j.d.enter()
	require.Equal(t, 2*8*500, inside)
	j.d.leave()
}
