package strandtest

import (
	"context"
	"errors"
	"net"

	"github.com/gostrand/strand"
)

// lifeCases are about the beginning and the end: groups BT and CL of the
// contract.
var lifeCases = []conformanceCase{
	{"ConnectionMadeGetsTheTransport", func(c *pair) {
		c.connect()
		c.want(c.a.Transport() == c.a.tr && c.b.Transport() == c.b.tr, "ConnectionMade got another transport than was returned")
		c.want(c.a.tr.Protocol() == c.a.p, "Protocol is not what was given")
	}},
	{"ConnectionMadeIsFirst", func(c *pair) {
		c.connect()
		c.want(c.a.Calls()[0] == "ConnectionMade", "the calls were %q", c.a.Calls())
		c.a.wantCalls("once", "ConnectionMade", 1)
	}},
	{"CloseEndsBothCleanly", func(c *pair) {
		c.connect()
		c.want(c.a.tr.Close() == nil, "Close returned an error")
		c.a.wantLost(nil)
		c.b.wantLost(nil)
		c.b.wantCalls("the peer has closed", "EOFReceived", 1)
		c.a.wantCalls("nothing is delivered after Close", "EOFReceived", 0)
	}},
	{"CloseTwice", func(c *pair) {
		c.connect()
		for range 3 {
			c.want(c.a.tr.Close() == nil, "Close returned an error")
		}
		c.a.wantLost(nil)
		c.want(c.a.tr.Close() == nil, "Close after the end returned an error")
		c.a.wantCalls("once", "ConnectionLost", 1)
	}},
	{"AbortTwice", func(c *pair) {
		c.connect()
		c.a.tr.Abort()
		c.a.tr.Abort()
		c.a.wantLost(nil)
		c.a.tr.Abort()
		c.a.wantCalls("once", "ConnectionLost", 1)
	}},
	{"AbortThenClose", func(c *pair) {
		c.connect()
		c.a.tr.Abort()
		c.a.tr.Close()
		c.a.wantLost(nil)
		c.a.wantCalls("once", "ConnectionLost", 1)
	}},
	{"CloseThenAbort", func(c *pair) {
		c.connect()
		c.a.tr.Close()
		c.a.tr.Abort()
		c.a.wantLost(nil)
		c.a.wantCalls("once", "ConnectionLost", 1)
	}},
	{"PeerAbortEnds", func(c *pair) {
		c.connect()
		c.b.tr.Abort()
		c.b.wantLost(nil)
		c.a.AwaitLost(c)
	}},
	{"IsClosing", func(c *pair) {
		var inData, inLost bool
		c.a.OnData = func([]byte) { inData = c.a.Transport().IsClosing() }
		c.a.OnLost = func(error) { inLost = c.a.Transport().IsClosing() }
		c.connect()
		c.b.send(10)
		c.a.wantAll(c.b)
		c.a.settle()
		c.want(!c.a.tr.IsClosing() && !inData, "IsClosing on an open connection")
		c.a.tr.Close()
		c.want(c.a.tr.IsClosing(), "not IsClosing after Close")
		c.a.wantLost(nil)
		c.want(inLost, "not IsClosing in ConnectionLost")
		c.want(c.a.tr.IsClosing(), "not IsClosing after the end")
	}},
	{"IsClosingAfterAbort", func(c *pair) {
		c.connect()
		c.a.tr.Abort()
		c.want(c.a.tr.IsClosing(), "not IsClosing after Abort")
	}},
	{"CloseInConnectionMade", func(c *pair) {
		c.a.OnMade = func(t strand.Transport) { t.Close() }
		c.connect()
		c.a.wantLost(nil)
		c.a.wantCalls("closed before anything could arrive", "DataReceived", 0)
		c.b.AwaitLost(c)
	}},
	{"WriteInConnectionMade", func(c *pair) {
		c.a.OnMade = func(t strand.Transport) { t.Write(pattern(0, 1000)) }
		c.connect()
		c.a.sent = 1000
		c.b.wantAll(c.a)
	}},
	{"WriteAndCloseInConnectionMade", func(c *pair) {
		c.a.OnMade = func(t strand.Transport) {
			t.Write(pattern(0, 100_000))
			t.Close()
		}
		c.connect()
		c.a.sent = 100_000
		c.b.wantAll(c.a)
		c.a.wantLost(nil)
		c.b.wantLost(nil)
	}},
	{"LostComesAfterTheCallback", func(c *pair) {
		c.a.OnData = func([]byte) {
			c.a.Transport().Close()
			c.a.note("still in DataReceived")
		}
		c.connect()
		c.b.write(1)
		c.a.wantLost(nil)
		calls := c.a.Calls()
		c.want(calls[len(calls)-2] == "still in DataReceived", "ConnectionLost ran inside DataReceived: %q", calls)
	}},
	{"DoneComesAfterConnectionLost", func(c *pair) {
		release := make(chan struct{})
		c.a.OnLost = func(error) { <-release }
		c.connect()
		c.a.tr.Abort()
		c.a.AwaitCall(c, "ConnectionLost", 1)
		c.want(!isClosed(c.a.tr.Done()), "Done while ConnectionLost runs")
		close(release)
		c.await("Done", c.a.tr.Done())
	}},
	{"ContextAfterClose", func(c *pair) {
		c.connect()
		ctx := c.a.tr.Context()
		c.want(ctx.Err() == nil, "Context is over on an open connection")
		c.a.tr.Close()
		c.await("the end of Context", ctx.Done())
		c.want(errors.Is(context.Cause(ctx), net.ErrClosed), "its cause is %v", context.Cause(ctx))
	}},
	{"ContextFirstAskedAfterTheEnd", func(c *pair) {
		c.connect()
		c.a.tr.Abort()
		c.a.wantLost(nil)
		ctx := c.a.tr.Context()
		c.want(isClosed(ctx.Done()) && errors.Is(context.Cause(ctx), net.ErrClosed), "Context is not over: %v", context.Cause(ctx))
		c.want(isClosed(c.a.tr.Done()), "Done is not closed")
	}},
	{"ContextReleasesACallback", func(c *pair) {
		inside := make(chan struct{})
		c.a.OnData = func([]byte) {
			close(inside)
			<-c.a.Transport().Context().Done()
		}
		c.connect()
		c.b.write(1)
		c.await("DataReceived", inside)
		c.a.tr.Abort()
		c.a.wantLost(nil)
	}},
	{"ExtraInfo", func(c *pair) {
		c.connect()
		c.want(c.a.tr.ExtraInfo("no such name") == nil, "an unknown name has an answer")
		if addr := c.a.tr.ExtraInfo(strand.ExtraSockname); addr != nil {
			c.want(addr == any(c.a.tr.LocalAddr()), "sockname is %v, LocalAddr %v", addr, c.a.tr.LocalAddr())
		}
	}},
	{"AccessorsAfterTheEnd", func(c *pair) {
		c.connect()
		local, remote := c.a.tr.LocalAddr(), c.a.tr.RemoteAddr()
		low, high := c.a.tr.WriteBufferLimits()
		c.a.tr.Close()
		c.a.wantLost(nil)
		c.wantAccessorsAfterEnd()
		c.want(c.a.tr.LocalAddr() == local && c.a.tr.RemoteAddr() == remote, "the addresses have changed")
		l, h := c.a.tr.WriteBufferLimits()
		c.want(l == low && h == high, "the water marks have changed")
	}},
	{"MethodsInConnectionLost", func(c *pair) {
		c.a.OnLost = func(error) {
			t := c.a.Transport()
			c.wantClosed(t.Write([]byte("x")))
			t.Close()
			t.Abort()
			t.PauseReading()
			t.ResumeReading()
			t.WriteEOF()
		}
		c.connect()
		c.a.tr.Close()
		c.a.wantLost(nil)
	}},
	{"SendAndPeerClose", func(c *pair) {
		c.connect()
		c.b.send(5000)
		c.b.tr.Close()
		c.a.wantAll(c.b)
		c.a.wantLost(nil)
		c.b.wantLost(nil)
		c.a.wantCalls("the peer has closed", "EOFReceived", 1)
	}},
}

// wantAccessorsAfterEnd checks BT-12 on a connection that is over.
func (c *pair) wantAccessorsAfterEnd() {
	c.Helper()
	t := c.a.tr
	c.want(t.IsClosing() && !t.IsReading() && !t.Writable(), "the connection does not look closed")
	c.want(t.WriteBufferSize() == 0, "WriteBufferSize is %d", t.WriteBufferSize())
	c.want(t.Protocol() == c.a.p, "Protocol has changed")
	t.CanWriteEOF()
	t.PauseReading()
	t.ResumeReading()
	if t.CanWriteEOF() {
		c.want(t.WriteEOF() == nil, "WriteEOF after the end is an error")
	}
	c.want(!t.CallSoon(func() { c.Error("a func ran after the end") }), "CallSoon accepts after the end")
	c.want(!t.CallLater(0, func() { c.Error("a timer ran after the end") }).Stop(), "CallLater accepts after the end")
	t.SetProtocol(c.a.p)
	c.wantClosed(t.Write([]byte("x")))
	c.wantClosed(t.WriteLines([]byte("x")))
}
