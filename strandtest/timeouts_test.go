package strandtest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Every time limit of the library, in a synctest bubble: an hour passes in no
// time, and what should happen at a moment is seen to happen at that moment.

// inBubble runs a test in a bubble.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// wantTimeout waits for the end of r's connection and checks that it came by a
// time limit, between at least and at most after start.
func wantTimeout(t *testing.T, r *Recorder, op string, start time.Time, atLeast, atMost time.Duration) {
	t.Helper()
	err := r.AwaitLost(t)
	var timeout *strand.TimeoutError
	require.ErrorAs(t, err, &timeout)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Equal(t, op, timeout.Op)
	took := time.Since(start)
	require.GreaterOrEqual(t, took, atLeast)
	require.LessOrEqual(t, took, atMost)
}

// stalledWriter is a connection whose output the peer does not read.
func stalledWriter(t *testing.T, o strand.TransportOptions) (*Recorder, strand.Transport) {
	r := new(Recorder)
	ta, tb := PairWith(t, r, new(Recorder), &PairOptions{Capacity: 1000, A: strand.AttachOptions{TransportOptions: o}})
	tb.PauseReading()
	synctest.Wait()
	_, err := ta.Write(make([]byte, 50_000))
	require.NoError(t, err)
	synctest.Wait()
	require.Positive(t, ta.WriteBufferSize())
	return r, ta
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := new(Recorder)
		o := strand.AttachOptions{TransportOptions: strand.TransportOptions{IdleTimeout: time.Minute}}
		_, tb := PairWith(t, r, new(Recorder), &PairOptions{A: o})
		for range 5 {
			time.Sleep(40 * time.Second)
			_, err := tb.Write([]byte("still here"))
			require.NoError(t, err, "the connection was not idle")
		}
		wantTimeout(t, r, "idle", time.Now(), time.Minute, 75*time.Second)
	})
}

func TestWriteTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		start := time.Now()
		r, ta := stalledWriter(t, strand.TransportOptions{WriteTimeout: time.Minute})
		wantTimeout(t, r, "write", start, time.Minute, 75*time.Second)
		_, err := ta.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestCloseTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 5 * time.Second} {
		inBubble(t, func(t *testing.T) {
			r, ta := stalledWriter(t, strand.TransportOptions{CloseTimeout: limit})
			start := time.Now()
			ta.Close()
			want := limit
			if want == 0 {
				want = 30 * time.Second // the default
			}
			wantTimeout(t, r, "close", start, want, want)
		})
	}
}

func TestCloseTimeoutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, ta := stalledWriter(t, strand.TransportOptions{CloseTimeout: -1})
		ta.Close()
		time.Sleep(1000 * time.Hour)
		require.NotContains(t, r.Calls(), "ConnectionLost")
		ta.Abort()
		require.NoError(t, r.AwaitLost(t))
	})
}

// TestHandshakeTimeout has a peer that says nothing.
func TestHandshakeTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 7 * time.Second} {
		inBubble(t, func(t *testing.T) {
			conn, silent := Pipe(0)
			defer silent.Close()
			client, _ := TLSOptions()
			client.HandshakeTimeout = limit
			start := time.Now()
			r := new(Recorder)
			_, _, err := strand.Attach(t.Context(), conn, func() *Recorder { return r }, &strand.AttachOptions{TLS: client})
			var timeout *strand.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, "handshake", timeout.Op)
			want := limit
			if want == 0 {
				want = time.Minute // the default
			}
			require.Equal(t, want, time.Since(start))
			require.Empty(t, r.Calls(), "there was no connection")
		})
	}
}

// TestShutdownTimeout has a TLS peer that does not answer close_notify: it does
// not read.
func TestShutdownTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		client, server := TLSOptions()
		client.ShutdownTimeout = 9 * time.Second
		r := new(Recorder)
		ta, tb := PairWith(t, r, new(Recorder), &PairOptions{A: strand.AttachOptions{TLS: client}, B: strand.AttachOptions{TLS: server}})
		tb.PauseReading()
		synctest.Wait()
		start := time.Now()
		ta.Close()
		wantTimeout(t, r, "shutdown", start, 9*time.Second, 9*time.Second)
	})
}

// TestAcceptBackOff has a process without descriptors: accepting goes on after
// 5 ms, doubling to a second, and the connection that waited is served.
func TestAcceptBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		errs := make([]error, 10) // 5+10+...+640 ms, then 1 s twice
		for i := range errs {
			errs[i] = syscall.EMFILE
		}
		ln := Listen(0)
		r := new(Recorder)
		o := &strand.ServerOptions{TransportOptions: strand.TransportOptions{Logger: slog.New(slog.DiscardHandler)}}
		start := time.Now()
		s, err := strand.ServeListener(FailAccept(ln, errs...), func() *Recorder { return r }, o)
		require.NoError(t, err)
		conn, err := ln.Dial(t.Context())
		require.NoError(t, err)
		r.AwaitCall(t, "ConnectionMade", 1)
		require.Equal(t, 3275*time.Millisecond, time.Since(start))
		conn.Close()
		require.NoError(t, r.AwaitLost(t))
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// TestCloseEndsAcceptBackOff: Close does not wait for it.
func TestCloseEndsAcceptBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &strand.ServerOptions{TransportOptions: strand.TransportOptions{Logger: slog.New(slog.DiscardHandler)}}
		s, err := strand.ServeListener(FailAccept(Listen(0), syscall.EMFILE), func() *Recorder { return new(Recorder) }, o)
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.NoError(t, s.Wait(t.Context()))
		require.Zero(t, time.Since(start))
	})
}

// TestServeForeverShutdownTimeout has a connection that cannot finish.
func TestServeForeverShutdownTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ln := Listen(1000)
		r := new(Recorder)
		r.OnMade = func(t strand.Transport) { t.Write(make([]byte, 10_000)) } // nobody reads it
		s, err := strand.ServeListener(ln, func() *Recorder { return r }, &strand.ServerOptions{ShutdownTimeout: 11 * time.Second})
		require.NoError(t, err)
		conn, err := ln.Dial(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		r.AwaitCall(t, "ConnectionMade", 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err = s.ServeForever(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 12*time.Second, time.Since(start))
		require.NoError(t, r.AwaitLost(t), "it was aborted")
	})
}

func TestCallLaterInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ta, _ := Pair(t, new(Recorder), new(Recorder))
		start := time.Now()
		var at []time.Duration
		note := func() { at = append(at, time.Since(start)) }
		ta.CallLater(3*time.Hour, note)
		ta.CallLater(time.Hour, note)
		stopped := ta.CallLater(2*time.Hour, note)
		time.Sleep(90 * time.Minute)
		require.True(t, stopped.Stop())
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Hour, 3 * time.Hour}, at)
	})
}

// TestConnectTimeout: the context of an entry point counts until it returns.
func TestConnectTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		conn, silent := Pipe(0)
		defer silent.Close()
		client, _ := TLSOptions()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("too late"))
		defer cancel()
		start := time.Now()
		_, _, err := strand.Attach(ctx, conn, func() *Recorder { return new(Recorder) }, &strand.AttachOptions{TLS: client})
		require.ErrorContains(t, err, "too late")
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}
