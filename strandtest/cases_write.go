package strandtest

import (
	"bytes"
	"errors"
	"runtime"
	"sync"

	"github.com/gostrand/strand"
)

// eofCases are about half closing: groups EO and HC. On a connection that
// cannot do that, the end of file comes from Close.
var eofCases = []conformanceCase{
	{"EOFCloses", func(c *pair) {
		c.connect()
		c.b.send(1000)
		c.b.endInput()
		c.a.wantAll(c.b)
		c.a.wantLost(nil)
		c.b.wantLost(nil)
		c.a.wantCalls("once", "EOFReceived", 1)
	}},
	{"EOFKeptOpen", func(c *pair) {
		c.a.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.b.send(100)
		c.b.endInput()
		c.a.AwaitCall(c, "EOFReceived", 1)
		c.a.settle()
		c.want(!c.a.tr.IsClosing(), "the connection closes although EOFReceived returned true")
		c.a.send(5000)
		c.b.wantAll(c.a)
		c.a.tr.Close()
		c.a.wantLost(nil)
		c.b.wantLost(nil)
	}},
	{"EOFOnce", func(c *pair) {
		c.a.OnEOF = func() bool { return true }
		c.connect()
		c.b.endInput()
		c.a.AwaitCall(c, "EOFReceived", 1)
		for range 5 {
			c.a.tr.PauseReading()
			c.a.tr.ResumeReading()
		}
		c.a.tr.Close()
		c.a.wantLost(nil)
		c.a.wantCalls("also after pauses", "EOFReceived", 1)
	}},
	{"WriteInEOFReceived", func(c *pair) {
		c.a.OnEOF = func() bool {
			c.a.Transport().Write(pattern(0, 50_000))
			return false
		}
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.b.endInput()
		c.a.sent = 50_000
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
	}},
	{"CloseInEOFReceived", func(c *pair) {
		c.a.OnEOF = func() bool {
			c.a.Transport().Close()
			return true
		}
		c.connect()
		c.b.endInput()
		c.a.wantLost(nil)
	}},
	{"AbortInEOFReceived", func(c *pair) {
		c.a.OnEOF = func() bool {
			c.a.Transport().Abort()
			return true
		}
		c.connect()
		c.b.endInput()
		c.a.wantLost(nil)
	}},
	{"WriteEOFUnsupported", func(c *pair) {
		c.connect()
		if c.a.tr.CanWriteEOF() {
			return
		}
		c.want(errors.Is(c.a.tr.WriteEOF(), errors.ErrUnsupported), "WriteEOF is not refused although CanWriteEOF is false")
		c.a.send(100)
		c.b.wantAll(c.a)
	}},
	{"WriteEOFAfterData", func(c *pair) {
		c.connect()
		c.a.send(100_000)
		c.a.endInput()
		c.b.wantAll(c.a)
		c.b.AwaitCall(c, "EOFReceived", 1)
		c.b.wantLost(nil)
	}},
	{"WriteEOFBehindBacklog", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.endInput()
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.b.AwaitCall(c, "EOFReceived", 1)
		c.a.wantLost(nil)
	}},
	{"WriteEOFTwice", func(c *pair) {
		c.b.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		for range 3 {
			c.want(c.a.tr.WriteEOF() == nil, "a second WriteEOF is an error")
		}
		c.want(!c.a.tr.IsClosing(), "WriteEOF closes")
		c.b.AwaitCall(c, "EOFReceived", 1)
		c.b.tr.Close()
		c.a.wantLost(nil)
		c.b.wantCalls("once", "EOFReceived", 1)
	}},
	{"WriteAfterWriteEOF", func(c *pair) {
		c.b.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.a.endInput()
		for _, p := range [][]byte{[]byte("x"), nil} {
			_, err := c.a.tr.Write(p)
			c.want(errors.Is(err, strand.ErrWriteAfterEOF), "Write of %d bytes after WriteEOF: %v", len(p), err)
			_, err = c.a.tr.WriteLines(p)
			c.want(errors.Is(err, strand.ErrWriteAfterEOF), "WriteLines of %d bytes after WriteEOF: %v", len(p), err)
		}
	}},
	{"ReceiveAfterWriteEOF", func(c *pair) {
		c.b.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.a.endInput()
		c.b.AwaitCall(c, "EOFReceived", 1)
		c.b.send(5000)
		c.a.wantAll(c.b)
		c.b.tr.Close()
		c.a.wantLost(nil)
	}},
	{"CloseAfterWriteEOF", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.endInput()
		c.a.tr.Close()
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
		c.b.wantLost(nil)
	}},
	{"BothWriteEOF", func(c *pair) {
		c.a.OnEOF = func() bool { return true }
		c.b.OnEOF = func() bool { return true }
		c.connect()
		if !c.keepsOpen() {
			return
		}
		c.a.endInput()
		c.b.endInput()
		c.a.AwaitCall(c, "EOFReceived", 1)
		c.b.AwaitCall(c, "EOFReceived", 1)
		c.want(!c.a.tr.IsClosing() && !c.b.tr.IsClosing(), "two half closes close (EO-07)")
		c.a.tr.Close()
		c.b.tr.Close()
		c.a.wantLost(nil)
		c.b.wantLost(nil)
	}},
}

// writeCases are about sending: group WR, and the closing that it depends on.
var writeCases = []conformanceCase{
	{"WriteReturnsTheLength", func(c *pair) {
		c.connect()
		n, err := c.a.tr.Write([]byte("hello"))
		c.want(n == 5 && err == nil, "Write returned %d, %v", n, err)
		n, err = c.a.tr.WriteLines([]byte("he"), nil, []byte("llo"))
		c.want(n == 5 && err == nil, "WriteLines returned %d, %v", n, err)
		c.want(string(c.b.AwaitData(c, 10)) == "hellohello", "the peer got %q", c.b.Received())
	}},
	{"EmptyWrites", func(c *pair) {
		c.connect()
		for _, w := range []func() (int, error){
			func() (int, error) { return c.a.tr.Write(nil) },
			func() (int, error) { return c.a.tr.WriteLines() },
			func() (int, error) { return c.a.tr.WriteLines(nil, []byte{}) },
		} {
			n, err := w()
			c.want(n == 0 && err == nil, "an empty write returned %d, %v", n, err)
		}
		c.a.write(1)
		c.b.wantAll(c.a)
	}},
	{"WriteDoesNotKeep", func(c *pair) {
		c.connect()
		c.b.tr.PauseReading()
		for c.a.tr.WriteBufferSize() < bulk {
			p := pattern(c.a.sent, 8<<10)
			c.a.accepted(c.a.tr.WriteLines(p[:1], p[1:]))
			c.a.sent += len(p)
			poison(p)
		}
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
	}},
	{"OrderOfWriteAndWriteLines", func(c *pair) {
		c.connect()
		for i := range 60 {
			p := pattern(c.a.sent, 100+i)
			if i%2 == 0 {
				c.a.accepted(c.a.tr.Write(p))
			} else {
				c.a.accepted(c.a.tr.WriteLines(p[:i], p[i:i], p[i:]))
			}
			c.a.sent += len(p)
		}
		c.b.wantAll(c.a)
	}},
	{"WriteLinesOfManyPieces", func(c *pair) {
		c.connect()
		data := pattern(0, 3000)
		var pieces [][]byte
		for i := range data {
			pieces = append(pieces, data[i:i+1])
		}
		c.a.accepted(c.a.tr.WriteLines(pieces...))
		c.a.sent = len(data)
		c.b.wantAll(c.a)
	}},
	{"WriteNeverBlocks", func(c *pair) {
		c.connect()
		c.b.tr.PauseReading()
		c.a.write(512 << 10)
		c.want(c.a.tr.WriteBufferSize() > 0, "the connection has taken 512 KiB that nobody reads")
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.awaitFlushed()
	}},
	{"WriteBufferSizeReturnsToZero", func(c *pair) {
		c.connect()
		c.a.awaitFlushed() // a handshake's last bytes may be on their way
		c.a.send(100_000)
		c.b.wantAll(c.a)
		c.a.awaitFlushed()
	}},
	{"WritesAreWhole", func(c *pair) {
		const writers, frames, size = 8, 40, 300
		c.connect()
		var wg sync.WaitGroup
		for id := range writers {
			wg.Go(func() {
				for range frames {
					c.a.accepted(c.a.tr.Write(bytes.Repeat([]byte{byte(id)}, size)))
				}
			})
		}
		wg.Wait()
		for got := c.b.AwaitData(c, writers*frames*size); len(got) > 0; got = got[size:] {
			c.want(bytes.Equal(got[:size], bytes.Repeat(got[:1], size)), "two Writes are mixed")
		}
	}},
	{"WriteAfterClose", func(c *pair) {
		c.connect()
		c.a.tr.Close()
		c.wantClosed(c.a.tr.Write([]byte("x")))
		c.wantClosed(c.a.tr.WriteLines([]byte("x")))
		c.a.wantLost(nil)
		c.b.wantLost(nil)
		c.want(len(c.b.Received()) == 0, "what was written after Close came")
	}},
	{"WriteAfterAbort", func(c *pair) {
		c.connect()
		c.a.tr.Abort()
		c.wantClosed(c.a.tr.Write([]byte("x")))
		c.a.wantLost(nil)
		c.wantClosed(c.a.tr.Write([]byte("x")))
	}},
	{"WriteAfterPeerClosed", func(c *pair) {
		c.connect()
		c.b.tr.Close()
		c.a.wantLost(nil)
		c.wantClosed(c.a.tr.Write([]byte("x")))
	}},
	{"WriteToVanishedPeer", func(c *pair) {
		c.a.OnEOF = func() bool { return true }
		c.connect()
		c.b.tr.Abort()
		c.b.wantLost(nil)
		for c.a.tr.WriteBufferSize() < 1<<20 { // the rest is for what is held to find out
			if _, err := c.a.tr.Write(pattern(0, 16<<10)); err != nil {
				break
			}
			runtime.Gosched()
		}
		c.a.AwaitLost(c)
		c.wantClosed(c.a.tr.Write([]byte("x")))
	}},
	{"CloseFlushes", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.tr.Close()
		c.wantClosed(c.a.tr.Write([]byte("x")))
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
		c.b.wantLost(nil)
	}},
	{"CloseFlushesSmall", func(c *pair) {
		c.connect()
		c.a.send(2000)
		c.a.tr.Close()
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
	}},
	{"AbortDiscards", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.tr.Abort()
		c.want(c.a.tr.WriteBufferSize() == 0, "WriteBufferSize is %d after Abort", c.a.tr.WriteBufferSize())
		c.a.wantLost(nil)
		c.b.tr.ResumeReading()
		c.b.AwaitLost(c)
		c.b.wantPrefix()
		c.want(len(c.b.Received()) < c.a.sent, "everything came, although output was held when Abort was called")
	}},
	{"AbortWhileFlushing", func(c *pair) {
		c.connect()
		c.a.fill(c.b)
		c.a.tr.Close()
		c.want(!isClosed(c.a.tr.Done()), "Close did not wait for the output")
		c.a.tr.Abort()
		c.a.wantLost(nil)
		c.a.wantCalls("once", "ConnectionLost", 1)
	}},
	{"WriteBufferMax", func(c *pair) {
		c.opts.WriteBufferMax = 100_000
		c.connect()
		c.b.tr.PauseReading()
		var err error
		for c.a.sent < 64<<20 && err == nil {
			var n int
			n, err = c.a.tr.Write(pattern(c.a.sent, 20_000))
			c.want(err == nil || n == 0, "a refused Write has accepted %d bytes", n)
			c.a.sent += n
		}
		c.want(errors.Is(err, strand.ErrBufferFull), "the error is %v", err)
		c.want(!c.a.tr.IsClosing(), "a full buffer has closed the connection")
		c.b.tr.ResumeReading()
		c.b.wantAll(c.a)
	}},
}
