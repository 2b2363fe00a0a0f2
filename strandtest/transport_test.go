package strandtest

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

func TestFakeConversation(t *testing.T) {
	r := new(Recorder)
	r.OnData = func(data []byte) { r.Transport().Write(append([]byte("got "), data...)) }
	tr := NewTransport(r)
	tr.Feed("one")
	tr.Feed("two")
	require.Equal(t, "got onegot two", tr.Written())
	require.Empty(t, tr.Written(), "it was asked for")
	tr.FeedEOF()
	tr.Feed("too late")
	err, lost := tr.Lost()
	require.True(t, lost)
	require.NoError(t, err)
	require.Equal(t, []string{"ConnectionMade", "DataReceived 6", "EOFReceived", "ConnectionLost"}, r.Calls())
	require.True(t, isClosed(tr.Done()))
	require.ErrorIs(t, context.Cause(tr.Context()), net.ErrClosed)
}

func TestFakePausedReading(t *testing.T) {
	r := new(Recorder)
	r.OnData = func([]byte) { r.Transport().PauseReading() }
	tr := NewTransport(r)
	tr.Feed("one")
	tr.Feed("two")
	tr.FeedEOF()
	require.Equal(t, "one", string(r.Received()))
	require.False(t, tr.IsReading())
	r.OnData = nil
	tr.ResumeReading()
	require.Equal(t, "one", string(r.Received()), "nothing is delivered by ResumeReading itself")
	tr.Run()
	require.Equal(t, "onetwo", string(r.Received()))
	_, lost := tr.Lost()
	require.True(t, lost)
}

func TestFakeFlowControl(t *testing.T) {
	r := new(Recorder)
	tr := NewTransport(r)
	require.NoError(t, tr.SetWriteBufferLimits(10, 5))
	tr.Hold()
	tr.Write([]byte("0123456789"))
	require.True(t, tr.Writable(), "ten is not more than ten")
	tr.Write([]byte("x"))
	require.False(t, tr.Writable())
	require.Equal(t, []string{"ConnectionMade"}, r.Calls(), "it is told in turn")
	tr.Take(5)
	require.Equal(t, []string{"ConnectionMade", "PauseWriting"}, r.Calls())
	tr.Take(1)
	require.Equal(t, []string{"ConnectionMade", "PauseWriting", "ResumeWriting"}, r.Calls())
	require.Equal(t, 5, tr.WriteBufferSize())
	require.True(t, tr.Writable())
	require.NoError(t, tr.WriteEOF())
	require.False(t, tr.Writable(), "it takes nothing more")
	tr.Close()
	_, lost := tr.Lost()
	require.False(t, lost, "output is held")
	tr.Release()
	require.Equal(t, "0123456789x", tr.Written())
	_, lost = tr.Lost()
	require.True(t, lost)
	require.Error(t, tr.SetWriteBufferLimits(1, 2))
}

func TestFakeErrorsAndAbort(t *testing.T) {
	boom := errors.New("boom")
	r := new(Recorder)
	tr := NewTransport(r)
	tr.FeedError(boom)
	err, lost := tr.Lost()
	require.True(t, lost)
	require.Equal(t, boom, err)
	require.False(t, tr.Aborted())
	_, err = tr.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.False(t, tr.CallSoon(func() {}))

	tr = NewTransport(new(Recorder))
	tr.Hold()
	tr.Write([]byte("lost"))
	tr.Abort()
	tr.Close()
	require.True(t, tr.Aborted())
	require.Zero(t, tr.WriteBufferSize())
	require.Empty(t, tr.Written())
}

func TestFakeClock(t *testing.T) {
	tr := NewTransport(new(Recorder))
	var order []string
	note := func(s string) func() { return func() { order = append(order, s) } }
	tr.CallLater(2*time.Second, note("two"))
	tr.CallLater(time.Second, func() {
		order = append(order, "one")
		tr.CallLater(500*time.Millisecond, note("one and a half"))
	})
	stopped := tr.CallLater(time.Second, note("stopped"))
	require.True(t, stopped.Stop())
	require.False(t, stopped.Stop())
	tr.Advance(999 * time.Millisecond)
	require.Empty(t, order)
	tr.Advance(2 * time.Second)
	require.Equal(t, []string{"one", "one and a half", "two"}, order)
	late := tr.CallLater(time.Hour, note("never"))
	tr.Close()
	tr.Advance(2 * time.Hour)
	require.Len(t, order, 3)
	late.Stop()
}

func TestFakeCallSoonOrder(t *testing.T) {
	r := new(Recorder)
	r.OnData = func([]byte) {
		r.Transport().CallSoon(func() { r.note("posted") })
		r.Transport().Close()
		r.note("returning")
	}
	NewTransport(r).Feed("x")
	require.Equal(t, []string{"ConnectionMade", "DataReceived 1", "returning", "posted", "ConnectionLost"}, r.Calls())
}

func TestFakeBuffered(t *testing.T) {
	r := new(Recorder)
	p := &bufferedRecorder{Recorder: r, mode: SingleBytes, r: newRand(1, 1), buf: make([]byte, 10)}
	tr := NewTransport(p)
	tr.FeedBytes([]byte(strings.Repeat("abc", 10)), RandomChunks, 1)
	require.Equal(t, strings.Repeat("abc", 10), string(r.Received()))
}

func TestFakeAddressesAndEOF(t *testing.T) {
	tr := NewTransport(new(Recorder))
	tr.SetExtraInfo(strand.ExtraPeername, &net.TCPAddr{Port: 5})
	require.Equal(t, ":5", tr.RemoteAddr().String())
	require.Equal(t, "fake", tr.LocalAddr().String())
	require.False(t, tr.EOFWritten())
	require.NoError(t, tr.WriteEOF())
	require.True(t, tr.EOFWritten())
	_, err := tr.Write(nil)
	require.ErrorIs(t, err, strand.ErrWriteAfterEOF)
	require.ErrorIs(t, strand.StartTLS(tr, nil, nil), errors.ErrUnsupported)
}

func TestFakePanicsReachTheTest(t *testing.T) {
	r := new(Recorder)
	r.OnData = func([]byte) { panic("found") }
	tr := NewTransport(r)
	require.PanicsWithValue(t, "found", func() { tr.Feed("x") })
	r.OnData = nil
	tr.Feed("y")
	require.Equal(t, "xy", string(r.Received()), "the fake goes on")
}
