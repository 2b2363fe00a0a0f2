package strandtest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostrand/strand"
)

// flowCases are about water marks: group FC. That pauses and resumes alternate
// is checked in every case of the suite.
var flowCases = []conformanceCase{
	{"WaterMarks", func(c *pair) {
		c.connect()
		for _, m := range []struct{ high, low, wantHigh, wantLow int }{
			{-1, -1, 64 << 10, 16 << 10},
			{10, -1, 10, 2},
			{-1, 10, 40, 10},
			{0, -1, 0, 0},
			{-1, 0, 0, 0},
			{7, 7, 7, 7},
			{-1, -1, 64 << 10, 16 << 10},
		} {
			c.want(c.a.tr.SetWriteBufferLimits(m.high, m.low) == nil, "SetWriteBufferLimits(%d, %d) is an error", m.high, m.low)
			low, high := c.a.tr.WriteBufferLimits()
			c.want(low == m.wantLow && high == m.wantHigh, "SetWriteBufferLimits(%d, %d) sets %d, %d", m.high, m.low, high, low)
		}
	}},
	{"DefaultWaterMarks", func(c *pair) {
		c.opts.WriteBufferHigh, c.opts.WriteBufferLow = 0, 0
		c.connect()
		low, high := c.a.tr.WriteBufferLimits()
		c.want(low == 16<<10 && high == 64<<10, "the defaults are %d and %d", low, high)
	}},
	{"BadWaterMarks", func(c *pair) {
		c.connect()
		c.want(c.a.tr.SetWriteBufferLimits(10, 11) != nil, "a high mark below the low one is accepted")
		low, high := c.a.tr.WriteBufferLimits()
		c.want(low == smallLow && high == smallHigh, "the marks have changed to %d and %d", low, high)
	}},
	{"PauseAndResume", func(c *pair) {
		c.connect()
		c.want(c.a.tr.Writable(), "not Writable at first")
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.do(func() {
			c.a.flood() // should the network have taken something meanwhile
			c.want(!c.a.tr.Writable(), "Writable although paused")
		})
		c.b.tr.ResumeReading()
		c.a.AwaitCall(c, "ResumeWriting", 1)
		c.b.wantAll(c.a)
		c.a.awaitFlushed()
		c.want(c.a.tr.Writable(), "not Writable with nothing held")
	}},
	{"PauseOnce", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		for range 5 {
			c.a.write(16 << 10)
		}
		c.a.settle()
		if countCalls(c.a.Calls(), "ResumeWriting") == 0 {
			c.a.wantCalls("not again before ResumeWriting", "PauseWriting", 1)
		}
	}},
	{"PauseComesRightAfterTheCallback", func(c *pair) {
		c.connect()
		c.b.tr.PauseReading()
		posted := make(chan struct{})
		c.a.do(func() {
			c.a.tr.CallSoon(func() { c.a.note("posted"); close(posted) })
			c.a.flood()
			c.want(!c.a.tr.Writable(), "Writable over the mark")
			c.a.wantCalls("it comes after the callback", "PauseWriting", 0)
		})
		c.await("the posted func", posted)
		calls := c.a.Calls()
		c.want(len(calls) >= 3 && calls[1] == "PauseWriting" && calls[2] == "posted", "the calls were %q", calls)
	}},
	{"NewMarksPause", func(c *pair) {
		c.connect()
		c.a.tr.SetWriteBufferLimits(100<<20, -1)
		c.a.fill(c.b)
		c.a.settle()
		c.a.wantCalls("100 MiB are allowed", "PauseWriting", 0)
		c.a.tr.SetWriteBufferLimits(1000, 500)
		c.want(!c.a.tr.Writable(), "Writable over the new mark")
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.b.tr.ResumeReading()
		c.a.AwaitCall(c, "ResumeWriting", 1)
		c.b.wantAll(c.a)
	}},
	{"NoPauseAtTheMark", func(c *pair) { // FC-04: above it, not at it
		c.connect()
		c.a.tr.SetWriteBufferLimits(100<<20, -1)
		c.a.fill(c.b)
		step := c.a.heldByWrite(100)
		c.a.tr.SetWriteBufferLimits(c.a.tr.WriteBufferSize(), 0)
		c.want(c.a.tr.Writable(), "not Writable with as much held as the new mark allows")
		high := c.a.tr.WriteBufferSize() + step
		c.a.tr.SetWriteBufferLimits(high, 0)
		c.a.write(100)
		c.want(c.a.tr.Writable(), "not Writable after a Write that came up to the mark")
		c.a.settle()
		c.a.wantCalls("the mark was reached and not crossed", "PauseWriting", 0)
		for c.a.tr.WriteBufferSize() <= high {
			c.a.write(1)
		}
		c.want(!c.a.tr.Writable(), "Writable over the mark")
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
	}},
	{"MarksOfZero", func(c *pair) {
		c.connect()
		c.a.tr.SetWriteBufferLimits(0, 0)
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.awaitFlushed()
		c.eventually("the last resume", func() bool {
			calls := c.a.Calls()
			return countCalls(calls, "PauseWriting") == countCalls(calls, "ResumeWriting")
		})
		c.want(c.a.tr.Writable(), "not Writable with nothing held")
	}},
	{"SomeRoundsOfPausing", func(c *pair) {
		c.connect()
		for range 2 {
			c.a.fill(c.b)
			c.b.tr.ResumeReading()
			c.b.wantAll(c.a)
			c.a.awaitFlushed()
		}
		c.eventually("the last resume", func() bool {
			calls := c.a.Calls()
			return countCalls(calls, "PauseWriting") == countCalls(calls, "ResumeWriting")
		})
	}},
	{"CloseResumesFirst", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.tr.Close()
		c.b.tr.ResumeReading()
		c.a.wantLost(nil)
		calls := c.a.Calls()
		c.want(calls[len(calls)-2] == "ResumeWriting", "the calls were %q", calls)
		c.b.wantAll(c.a)
	}},
	{"AbortDoesNotResume", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.do(func() { // so that no resume can come between the last write and Abort
			c.a.flood()
			c.a.tr.Abort()
			c.a.note("aborted")
		})
		c.a.wantLost(nil)
		calls := c.a.Calls()
		c.want(calls[len(calls)-2] == "aborted", "something came between Abort and ConnectionLost: %q", calls)
	}},
	{"OnePairIsKeptForABlockedCallback", func(c *pair) {
		c.connect()
		c.a.do(func() {
			c.a.overAndBack()
			c.a.overAndBack()
			c.b.tr.PauseReading()
			c.a.flood()
			c.a.wantCalls("a callback is running", "PauseWriting", 0)
		})
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.do(func() {
			if !c.a.tr.Writable() { // the network has not taken it after all
				c.a.wantCalls("the last pause takes the resume away", "ResumeWriting", 0)
			}
		})
		c.b.tr.ResumeReading()
		c.a.AwaitCall(c, "ResumeWriting", 1)
		c.a.settle()
		c.a.wantCalls("the last pair stands for all", "PauseWriting", 1)
		c.a.wantCalls("the last pair stands for all", "ResumeWriting", 1)
		c.b.wantAll(c.a)
	}},
	{"CloseTellsWhatIsKept", func(c *pair) { // FC-10
		c.connect()
		c.a.do(func() {
			c.a.overAndBack()
			c.a.tr.Close()
		})
		c.a.wantLost(nil)
		c.a.wantCalls("Close is graceful", "ResumeWriting", 1)
		c.b.wantAll(c.a)
	}},
	{"AbortDropsWhatIsKept", func(c *pair) { // FC-10
		c.connect()
		c.a.do(func() {
			c.a.overAndBack()
			c.a.tr.Abort()
		})
		c.a.wantLost(nil)
		c.a.wantCalls("the connection was aborted", "ResumeWriting", 0)
	}},
	{"CloseInPauseWriting", func(c *pair) {
		c.a.OnPause = func() { c.a.Transport().Close() }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
	}},
	{"AbortInPauseWriting", func(c *pair) {
		c.a.OnPause = func() { c.a.Transport().Abort() }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.a.wantLost(nil)
		c.a.wantCalls("output was dropped", "ResumeWriting", 0)
	}},
	{"CloseInResumeWriting", func(c *pair) {
		c.a.OnResume = func() { c.a.Transport().Close() }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
	}},
	{"AbortInResumeWriting", func(c *pair) {
		c.a.OnResume = func() { c.a.Transport().Abort() }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.b.tr.ResumeReading()
		c.a.wantLost(nil)
		c.a.wantCalls("once", "ConnectionLost", 1)
		c.b.wantPrefix()
	}},
	{"WriteInPauseWriting", func(c *pair) {
		c.a.OnPause = sync.OnceFunc(func() { c.a.write(1000) })
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.settle()
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
	}},
	{"WriteInResumeWriting", func(c *pair) {
		rounds := 0
		finished := make(chan struct{})
		c.a.OnResume = func() {
			if rounds++; rounds <= 2 {
				c.b.tr.PauseReading()
				c.a.flood()
				c.b.tr.ResumeReading()
			}
			if rounds == 2 {
				close(finished)
			}
		}
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.b.tr.ResumeReading()
		c.await("two rounds of writing", finished)
		c.a.settle()
		c.b.wantAll(c.a)
	}},
	{"OptionsSetTheMarks", func(c *pair) {
		c.opts.WriteBufferHigh, c.opts.WriteBufferLow = 5000, -1
		c.connect()
		low, high := c.a.tr.WriteBufferLimits()
		c.want(low == 0 && high == 5000, "the marks are %d and %d", low, high)
	}},
}

// overAndBack crosses the high-water mark, and waits until the peer has read
// enough for a resume. The caller is a callback, which is told of neither yet.
func (e *end) overAndBack() {
	e.c.Helper()
	peer := e.c.b
	peer.tr.PauseReading()
	e.flood()
	e.c.want(!e.tr.Writable(), "Writable over the mark")
	peer.tr.ResumeReading()
	e.c.eventually("the peer to read enough", e.tr.Writable)
}

// heldByWrite returns by how much a Write of n bytes makes the output held grow
// on a connection that is full: over TLS it is more than n. Should the network
// take something meanwhile it writes on, until the same growth was seen twice.
func (e *end) heldByWrite(n int) int {
	e.c.Helper()
	last := 0
	for range 100 {
		before := e.tr.WriteBufferSize()
		e.write(n)
		grown := e.tr.WriteBufferSize() - before
		if grown >= n && grown == last {
			return grown
		}
		last = grown
	}
	e.c.Fatalf("a Write of %d bytes to a peer that does not read makes WriteBufferSize grow by %d", n, last)
	return 0
}

// callCases are about CallSoon and CallLater.
var callCases = []conformanceCase{
	{"CallSoonKeepsTheOrder", func(c *pair) {
		c.connect()
		var ran []int
		for i := range 100 {
			c.want(c.a.tr.CallSoon(func() { ran = append(ran, i) }), "CallSoon refused")
		}
		c.a.do(func() {
			for i, n := range ran {
				c.want(i == n, "func %d ran as number %d", n, i)
			}
			c.want(len(ran) == 100, "%d funcs ran", len(ran))
		})
	}},
	{"CallSoonRunsAfterTheCallback", func(c *pair) {
		c.a.OnData = func([]byte) {
			c.a.Transport().CallSoon(func() { c.a.note("posted") })
			c.a.note("returning")
		}
		c.connect()
		c.b.write(1)
		c.a.AwaitCall(c, "posted", 1)
		calls := c.a.Calls()
		c.want(calls[2] == "returning" && calls[3] == "posted", "the calls were %q", calls)
	}},
	{"CallSoonRunsBeforeConnectionLost", func(c *pair) {
		c.connect()
		c.a.do(func() {
			c.a.tr.Abort()
			c.want(c.a.tr.CallSoon(func() { c.a.note("posted") }), "CallSoon refused before ConnectionLost")
		})
		c.a.wantLost(nil)
		c.a.wantCalls("it was accepted", "posted", 1)
	}},
	{"CallSoonAgainstTheEnd", func(c *pair) {
		c.connect()
		var accepted, ran atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for c.a.tr.CallSoon(func() { ran.Add(1) }) {
					accepted.Add(1)
					runtime.Gosched()
				}
			})
		}
		c.a.settle()
		c.a.tr.Abort()
		wg.Wait()
		c.a.wantLost(nil)
		c.want(accepted.Load() == ran.Load(), "%d funcs were accepted, %d ran", accepted.Load(), ran.Load())
	}},
	{"CallSoonDoesNotStarveReading", func(c *pair) {
		c.connect()
		var again func()
		again = func() { c.a.tr.CallSoon(again) }
		c.a.tr.CallSoon(again)
		c.b.send(20_000)
		c.a.wantAll(c.b)
		c.a.tr.Abort()
		c.a.wantLost(nil)
	}},
	{"CallLater", func(c *pair) {
		c.connect()
		ran := make(chan struct{})
		c.a.tr.CallLater(time.Millisecond, func() {
			c.a.note("timer")
			close(ran)
		})
		c.await("the timer", ran)
	}},
	{"CallLaterInThePast", func(c *pair) {
		c.connect()
		ran := make(chan struct{}, 2)
		c.a.tr.CallLater(0, func() { ran <- struct{}{} })
		c.a.tr.CallLater(-time.Hour, func() { ran <- struct{}{} })
		c.await("a timer of 0", ran)
		c.await("a negative timer", ran)
	}},
	{"TimerStop", func(c *pair) {
		c.connect()
		c.a.do(func() {
			timer := c.a.tr.CallLater(0, func() { c.a.note("stopped timer") })
			c.want(timer.Stop(), "Stop in a callback of the connection comes too late")
			c.want(!timer.Stop(), "a second Stop says that it stopped something")
		})
		ran := make(chan struct{})
		c.a.tr.CallLater(2*time.Millisecond, func() { close(ran) })
		c.await("a later timer", ran)
		c.a.wantCalls("it was stopped", "stopped timer", 0)
	}},
	{"TimersEndWithTheConnection", func(c *pair) {
		c.connect()
		timer := c.a.tr.CallLater(time.Hour, func() { c.a.note("timer") })
		c.a.tr.Close()
		c.a.wantLost(nil)
		timer.Stop()
		c.a.wantCalls("the connection was over", "timer", 0)
	}},
}

// panicCases: a panic ends its connection, whichever callback it comes from.
var panicCases = []conformanceCase{
	{"PanicInDataReceived", func(c *pair) {
		c.a.OnData = func([]byte) { panic(errBoom) }
		c.connect()
		c.b.write(1)
		c.wantPanicked()
	}},
	{"GoexitInDataReceived", func(c *pair) {
		c.a.OnData = func([]byte) { runtime.Goexit() }
		c.connect()
		c.b.write(1)
		var panicked *strand.PanicError
		c.want(errors.As(c.a.AwaitLost(c), &panicked), "ConnectionLost(%v)", c.a.Lost())
	}},
	{"PanicInEOFReceived", func(c *pair) {
		c.a.OnEOF = func() bool { panic(errBoom) }
		c.connect()
		c.b.endInput()
		c.wantPanicked()
	}},
	{"PanicInPauseWriting", func(c *pair) {
		c.a.OnPause = func() { panic(errBoom) }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.wantPanicked()
	}},
	{"PanicInResumeWriting", func(c *pair) {
		c.a.OnResume = func() { panic(errBoom) }
		c.connect()
		c.b.tr.PauseReading()
		c.a.do(c.a.flood)
		c.b.tr.ResumeReading()
		c.wantPanicked()
	}},
	{"PanicInConnectionLost", func(c *pair) {
		c.a.OnLost = func(error) { panic(errBoom) }
		c.connect()
		c.a.tr.Close()
		c.a.wantLost(nil)
	}},
	{"PanicInCallSoon", func(c *pair) {
		c.connect()
		c.a.tr.CallSoon(func() { panic(errBoom) })
		c.wantPanicked()
	}},
	{"TheFirstCauseWins", func(c *pair) {
		c.a.OnData = func([]byte) {
			c.a.Transport().Abort()
			panic(errBoom)
		}
		c.connect()
		c.b.write(1)
		c.a.wantLost(nil)
		c.want(c.a.Lost() == nil, "ConnectionLost(%v) after Abort", c.a.Lost())
	}},
	{"PanicHarmsNoOther", func(c *pair) {
		c.a.OnData = func([]byte) { panic(errBoom) }
		c.connect()
		other := newPair(c, c.mode, c.make)
		other.connect()
		c.b.write(1)
		c.wantPanicked()
		other.b.send(1000)
		other.a.wantAll(other.b)
	}},
}

var errBoom = errors.New("strandtest: a panic on purpose")

// wantPanicked checks law 7.
func (c *pair) wantPanicked() {
	c.Helper()
	c.a.wantLost(errBoom)
	var panicked *strand.PanicError
	c.want(errors.As(c.a.Lost(), &panicked) && panicked.Value == any(errBoom) && len(panicked.Stack) > 0, "ConnectionLost(%v) is no *PanicError", c.a.Lost())
	_, err := c.a.tr.Write([]byte("x"))
	c.wantClosed(0, err)
	c.want(errors.Is(err, errBoom), "a Write does not tell the cause: %v", err)
}

// concurrencyCases use one connection from many goroutines.
var concurrencyCases = []conformanceCase{
	{"MethodsWhileACallbackBlocks", func(c *pair) {
		inside, release := make(chan struct{}), make(chan struct{})
		c.a.OnData = func([]byte) {
			close(inside)
			<-release
		}
		c.connect()
		c.b.write(1)
		c.await("DataReceived", inside)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.a.callEverything()
		}()
		c.await("the return of all methods while a callback blocks", done)
		close(release)
		c.a.AwaitLost(c)
	}},
	{"ABlockedCallbackHoldsUpNobodyElse", func(c *pair) {
		inside, release := make(chan struct{}), make(chan struct{})
		c.a.OnData = func([]byte) {
			close(inside)
			<-release
		}
		defer close(release)
		c.connect()
		c.b.write(1)
		c.await("DataReceived", inside)
		c.a.send(3000)
		c.b.wantAll(c.a)
		c.b.settle()
	}},
	{"CallbacksFromManyGoroutines", func(c *pair) {
		c.connect()
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				for n := range 50 {
					switch (i + n) % 5 {
					case 0:
						c.a.tr.CallSoon(func() {})
					case 1:
						c.a.tr.Write([]byte(fmt.Sprint(n)))
					case 2:
						c.a.tr.PauseReading()
						c.a.tr.ResumeReading()
					case 3:
						c.a.tr.CallLater(0, func() {})
					case 4:
						c.a.tr.SetWriteBufferLimits(n*100, -1)
					}
				}
			})
		}
		for range 20 {
			c.b.send(500)
		}
		wg.Wait()
		c.a.tr.ResumeReading()
		c.a.wantAll(c.b)
	}},
	{"EndsFromManyGoroutines", func(c *pair) {
		c.connect()
		c.a.send(10_000)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if i%2 == 0 {
					c.a.tr.Close()
				} else {
					c.b.tr.Abort()
				}
			})
		}
		wg.Wait()
		c.a.AwaitLost(c)
		c.b.wantLost(nil)
		c.a.wantCalls("once", "ConnectionLost", 1)
		c.b.wantCalls("once", "ConnectionLost", 1)
	}},
	{"WritersAgainstTheEnd", func(c *pair) {
		c.connect()
		var mu sync.Mutex
		var wg sync.WaitGroup
		var last error
		for range 4 {
			wg.Go(func() {
				for {
					mu.Lock()
					n, err := c.a.tr.Write(pattern(c.a.sent, 100))
					c.a.sent += n
					if err != nil {
						last = err
					}
					mu.Unlock()
					if err != nil {
						return
					}
					runtime.Gosched()
				}
			})
		}
		c.b.AwaitData(c, 10_000)
		c.a.tr.Close()
		wg.Wait()
		c.wantClosed(0, last)
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
		c.want(len(c.b.Received()) == c.a.sent, "%d bytes were accepted, %d came", c.a.sent, len(c.b.Received()))
	}},
}

// callEverything calls every method of a transport.
func (e *end) callEverything() {
	t := e.tr
	t.IsClosing()
	t.ExtraInfo(strand.ExtraSocket)
	t.Context()
	t.Done()
	t.CallSoon(func() {})
	t.CallLater(time.Hour, func() {}).Stop()
	t.IsReading()
	t.PauseReading()
	t.ResumeReading()
	t.Write(pattern(0, 100_000))
	t.WriteLines([]byte("x"), []byte("y"))
	t.CanWriteEOF()
	t.WriteBufferSize()
	t.WriteBufferLimits()
	t.SetWriteBufferLimits(-1, -1)
	t.Writable()
	t.SetProtocol(t.Protocol())
	t.LocalAddr()
	t.RemoteAddr()
	t.WriteEOF()
	t.Close()
	t.Abort()
}
