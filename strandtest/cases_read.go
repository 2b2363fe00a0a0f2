package strandtest

import (
	"runtime"
	"sync"

	"github.com/gostrand/strand"
)

// readCases are about receiving: group RD.
var readCases = []conformanceCase{
	{"OneByte", func(c *pair) {
		c.connect()
		c.b.write(1)
		c.a.wantAll(c.b)
	}},
	{"SmallMessages", func(c *pair) {
		c.connect()
		for range 50 {
			c.b.send(20)
		}
		c.a.wantAll(c.b)
	}},
	{"Large", func(c *pair) {
		c.connect()
		c.b.send(200_000)
		c.a.wantAll(c.b)
	}},
	{"BothDirections", func(c *pair) {
		c.connect()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 40 {
				c.a.write(2000)
			}
		})
		for range 40 {
			c.b.send(2000)
		}
		wg.Wait()
		c.a.wantAll(c.b)
		c.b.wantAll(c.a)
	}},
	{"Echo", func(c *pair) {
		c.b.OnData = func(data []byte) { c.b.Transport().Write(data) }
		c.connect()
		for range 20 {
			c.a.send(300)
			c.a.AwaitData(c, c.a.sent)
		}
		c.b.sent = c.a.sent
		c.a.wantAll(c.b)
	}},
	{"IsReading", func(c *pair) {
		c.connect()
		c.want(c.a.tr.IsReading(), "not reading at first")
		c.a.tr.PauseReading()
		c.want(!c.a.tr.IsReading(), "reading although paused")
		c.a.tr.PauseReading()
		c.a.tr.ResumeReading()
		c.want(c.a.tr.IsReading(), "one resume does not undo two pauses")
		c.a.tr.ResumeReading()
		c.a.tr.Close()
		c.want(!c.a.tr.IsReading(), "reading after Close")
	}},
	{"PauseInConnectionMade", func(c *pair) {
		c.a.OnMade = func(t strand.Transport) { t.PauseReading() }
		c.connect()
		c.b.send(100)
		c.b.giveTime()
		c.a.wantCalls("reading is paused", "DataReceived", 0)
		c.a.tr.ResumeReading()
		c.a.wantAll(c.b)
	}},
	{"PauseHoldsData", func(c *pair) {
		c.connect()
		c.b.send(100)
		c.a.wantAll(c.b)
		c.a.do(c.a.tr.PauseReading)
		c.b.send(100)
		c.b.giveTime()
		c.want(len(c.a.Received()) == 100, "%d bytes came, 100 of them before the pause", len(c.a.Received()))
		c.a.tr.ResumeReading()
		c.a.wantAll(c.b)
	}},
	{"PauseInDataReceived", func(c *pair) {
		paused := make(chan struct{})
		var once sync.Once
		atPause := 0
		c.a.OnData = func([]byte) {
			once.Do(func() {
				c.a.Transport().PauseReading()
				atPause = len(c.a.Received())
				close(paused)
			})
		}
		c.connect()
		c.b.send(50_000)
		c.await("the first chunk", paused)
		c.a.settle()
		c.want(len(c.a.Received()) == atPause, "more came after the pause")
		c.a.tr.ResumeReading()
		c.a.wantAll(c.b)
	}},
	{"PauseAndResumeInDataReceived", func(c *pair) {
		c.a.OnData = func([]byte) {
			c.a.Transport().PauseReading()
			c.a.Transport().ResumeReading()
		}
		c.connect()
		c.b.send(50_000)
		c.a.wantAll(c.b)
	}},
	{"ResumeDeliversLater", func(c *pair) {
		c.connect()
		c.a.do(c.a.tr.PauseReading)
		c.b.send(100)
		c.b.giveTime()
		c.a.do(func() {
			c.a.tr.ResumeReading()
			c.a.wantCalls("nothing is delivered inside a callback", "DataReceived", 0)
		})
		c.a.wantAll(c.b)
	}},
	{"PauseHoldsEOF", func(c *pair) {
		c.connect()
		c.a.do(c.a.tr.PauseReading)
		c.b.send(100)
		c.b.endInput()
		c.a.settle()
		c.a.wantCalls("reading is paused", "EOFReceived", 0)
		c.a.tr.ResumeReading()
		c.a.wantAll(c.b)
		c.a.wantLost(nil)
		c.a.wantCalls("after the pause", "EOFReceived", 1)
	}},
	{"PauseManyTimes", func(c *pair) {
		c.connect()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for !isClosed(stop) {
				c.a.tr.PauseReading()
				c.a.tr.ResumeReading()
				runtime.Gosched() // with one processor the others would wait for the scheduler each time
			}
		})
		for range 30 {
			c.b.send(2000)
		}
		c.a.wantAll(c.b)
		close(stop)
		wg.Wait()
	}},
	{"PauseInEveryDataReceived", func(c *pair) {
		c.a.OnData = func([]byte) {
			t := c.a.Transport()
			t.PauseReading()
			t.CallSoon(t.ResumeReading)
		}
		c.connect()
		c.b.send(20_000)
		c.a.wantAll(c.b)
	}},
	{"NothingAfterClose", func(c *pair) {
		c.connect()
		c.b.send(100)
		c.a.wantAll(c.b)
		c.a.do(func() {
			c.a.tr.Close()
			c.a.tr.ResumeReading()
		})
		c.b.tr.Write([]byte("too late"))
		c.a.wantLost(nil)
		c.want(len(c.a.Received()) == 100, "data came after Close")
	}},
	{"CloseInDataReceived", func(c *pair) {
		got := 0
		c.a.OnData = func(data []byte) {
			got += len(data)
			c.a.Transport().Close()
		}
		c.connect()
		c.b.tr.Write(pattern(0, 200_000)) // may find the peer gone
		c.a.wantLost(nil)
		c.a.wantPrefix()
		c.want(len(c.a.Received()) == got && countCalls(c.a.Calls(), "EOFReceived") == 0, "something came after Close")
		c.b.AwaitLost(c)
	}},
	{"AbortInDataReceived", func(c *pair) {
		c.a.OnData = func([]byte) {
			c.a.Transport().Abort()
			c.a.note("aborted")
		}
		c.connect()
		c.b.tr.Write(pattern(0, 200_000)) // may find the peer gone
		c.a.wantLost(nil)
		c.a.wantCalls("nothing comes after Abort", "DataReceived", 1)
		c.b.AwaitLost(c)
	}},
	{"CloseWhilePaused", func(c *pair) {
		c.connect()
		c.a.tr.PauseReading()
		c.a.tr.Close()
		c.a.wantLost(nil)
	}},
	{"AbortWhilePausedWithInput", func(c *pair) {
		c.connect()
		c.a.do(c.a.tr.PauseReading)
		c.b.send(1000)
		c.b.giveTime()
		c.a.tr.Abort()
		c.a.wantLost(nil)
		c.a.wantCalls("reading was paused", "DataReceived", 0)
	}},
}

// protocolCases are about SetProtocol and BufferedProtocol: groups SP and BP.
var protocolCases = []conformanceCase{
	{"SetProtocol", func(c *pair) {
		c.connect()
		c.b.send(10)
		c.a.wantAll(c.b)
		next := new(Recorder)
		c.a.do(func() { c.a.tr.SetProtocol(next) })
		c.want(c.a.tr.Protocol() == strand.Protocol(next), "Protocol does not return the new one")
		c.b.write(5)
		next.AwaitData(c, 5)
		c.a.tr.Close()
		next.AwaitLost(c)
		c.want(countCalls(next.Calls(), "ConnectionMade") == 0, "the new protocol got ConnectionMade")
		c.a.wantCalls("the new protocol gets it", "ConnectionLost", 0)
		c.want(len(c.a.Received()) == 10, "the old protocol got data")
	}},
	{"SetProtocolNil", func(c *pair) {
		c.connect()
		defer func() { c.want(recover() != nil, "SetProtocol(nil) did not panic") }()
		c.a.tr.SetProtocol(nil)
	}},
	{"SetProtocolInDataReceived", func(c *pair) {
		next := new(Recorder)
		c.a.OnData = func([]byte) { c.a.Transport().SetProtocol(next) }
		c.connect()
		c.b.send(50_000)
		c.eventually("all bytes", func() bool { return len(c.a.Received())+len(next.Received()) >= 50_000 })
		c.want(string(c.a.Received())+string(next.Received()) == string(pattern(0, 50_000)), "bytes were lost, or came twice")
	}},
	{"SetProtocolToBufferedAndBack", func(c *pair) {
		plain, buffered := new(Recorder), new(Recorder)
		c.connect()
		b := &bufferedRecorder{Recorder: buffered, mode: RandomChunks, r: newRand(c.seed, 13), buf: make([]byte, 4096)}
		for i := range 20 {
			c.b.send(500)
			if i%2 == 0 {
				c.a.tr.SetProtocol(b)
			} else {
				c.a.tr.SetProtocol(plain)
			}
		}
		total := func() int { return len(c.a.Received()) + len(plain.Received()) + len(buffered.Received()) }
		c.eventually("all bytes, at one of three protocols", func() bool { return total() >= c.b.sent })
		c.want(total() == c.b.sent, "%d bytes were sent, %d came", c.b.sent, total())
	}},
	{"SetProtocolWhileClosing", func(c *pair) {
		next := new(Recorder)
		c.connect()
		c.a.do(func() {
			c.a.tr.Close()
			c.a.tr.SetProtocol(next)
		})
		next.AwaitLost(c)
		c.a.wantCalls("the new protocol gets it", "ConnectionLost", 0)
	}},
	{"SetProtocolAfterTheEnd", func(c *pair) {
		next := new(Recorder)
		c.connect()
		c.a.tr.Abort()
		c.a.wantLost(nil)
		c.a.tr.SetProtocol(next)
		c.want(len(next.Calls()) == 0, "the new protocol got %q", next.Calls())
	}},
	{"SetProtocolWhilePaused", func(c *pair) {
		next := new(Recorder)
		c.connect()
		c.a.fill(c.b)
		c.a.AwaitCall(c, "PauseWriting", 1)
		c.a.do(func() {
			c.a.flood() // should the network have taken something meanwhile
			c.a.tr.SetProtocol(next)
		})
		c.b.tr.ResumeReading()
		next.AwaitCall(c, "ResumeWriting", 1)
		c.b.wantAll(c.a)
	}},
	{"SetProtocolAfterEOF", func(c *pair) {
		next := new(Recorder)
		c.a.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.b.endInput()
		c.a.AwaitCall(c, "EOFReceived", 1)
		c.a.do(func() { c.a.tr.SetProtocol(next) })
		c.a.tr.PauseReading()
		c.a.tr.ResumeReading()
		c.a.tr.Close()
		next.AwaitLost(c)
		c.want(countCalls(next.Calls(), "EOFReceived") == 0, "the new protocol got EOFReceived")
	}},
	{"EmptyBuffer", func(c *pair) {
		empty := &emptyBuffer{}
		c.connect()
		c.a.do(func() { c.a.tr.SetProtocol(empty) })
		c.b.tr.Write([]byte("x")) // GetBuffer may have been called before
		c.want(empty.AwaitLost(c) != nil, "GetBuffer returned nothing, and ConnectionLost no error")
		c.want(len(empty.Received()) == 0, "data were received into nothing")
	}},
}

// emptyBuffer is a BufferedProtocol that has no room.
type emptyBuffer struct{ Recorder }

func (*emptyBuffer) GetBuffer(int) []byte { return nil }
func (*emptyBuffer) BufferUpdated(int)    { panic("an empty buffer was updated") }
