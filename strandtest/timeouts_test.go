package strandtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
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
//
//	limit                                   here                              in the root package
//	------------------------------------    ------------------------------    -----------------------------
//	IdleTimeout                             TestIdleTimeout                   limits_test.go
//	  of datagrams                          TestIdleTimeoutOfDatagrams
//	WriteTimeout                            TestWriteTimeout                  limits_test.go
//	  of datagrams                          TestWriteAndCloseTimeoutOfDatagrams
//	CloseTimeout                            TestCloseTimeout, ...Off          closing_test.go, TestTLSCloseTimeout
//	  of datagrams                          TestWriteAndCloseTimeoutOfDatagrams
//	TLSOptions.HandshakeTimeout, client     TestHandshakeTimeout              TestTLSHandshakeTimeout
//	  server                                TestHandshakeTimeoutOfServer
//	  StartTLS                              TestHandshakeTimeoutOfStartTLS    TestStartTLSTimeout
//	TLSOptions.ShutdownTimeout              TestShutdownTimeout               TestTLSShutdownTimeout
//	ServerOptions.ShutdownTimeout           TestServeForeverShutdownTimeout   the same name
//	context of Server.Shutdown              TestServerShutdownContext
//	context of Server.Wait                  TestServerShutdownContext
//	back-off of accept                      TestAcceptBackOff, TestCloseEnds…  the same name
//	context of connecting, attaching        TestConnectTimeout
//	head start of an address (RFC 8305)                                       race_test.go
//	CallLater                               TestCallLaterInTime               limits_test.go
//	SlowCallback                                                              debug_test.go
//	deadlines of streams.Conn                                                 streams/conn_test.go
//
// SubprocessTransport.Shutdown (5 s and 5 s) waits for processes, whose time is
// real: its tests in subprocess_test.go give it a context.

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

// TestHandshakeTimeoutOfServer has a client that says nothing: there is no
// protocol for it, and the server goes on.
func TestHandshakeTimeoutOfServer(t *testing.T) {
	for _, limit := range []time.Duration{0, 7 * time.Second} {
		inBubble(t, func(t *testing.T) {
			_, server := TLSOptions()
			server.HandshakeTimeout = limit
			ln := Listen(0)
			s, err := strand.ServeListener(ln, func() *Recorder {
				t.Error("a protocol was made without a handshake")
				return new(Recorder)
			}, &strand.ServerOptions{TLS: server})
			require.NoError(t, err)
			silent, err := ln.Dial(t.Context())
			require.NoError(t, err)
			defer silent.Close()
			start := time.Now()
			_, err = io.Copy(io.Discard, silent) // an alert, and the end
			require.NoError(t, err)
			want := limit
			if want == 0 {
				want = time.Minute // the default
			}
			require.Equal(t, want, time.Since(start))
			require.NoError(t, s.Shutdown(t.Context()))
			require.EqualValues(t, 1, s.FailedHandshakes())
		})
	}
}

// TestHandshakeTimeoutOfStartTLS: the upgrade and the connection end.
func TestHandshakeTimeoutOfStartTLS(t *testing.T) {
	for _, limit := range []time.Duration{0, 7 * time.Second} {
		inBubble(t, func(t *testing.T) {
			client, _ := TLSOptions()
			client.HandshakeTimeout = limit
			r := new(Recorder)
			ta, _ := Pair(t, r, new(Recorder)) // the other end takes the ClientHello for data
			start := time.Now()
			err := strand.StartTLSWait(t.Context(), ta, client)
			var timeout *strand.TimeoutError
			require.ErrorAs(t, err, &timeout)
			want := limit
			if want == 0 {
				want = time.Minute // the default
			}
			wantTimeout(t, r, "handshake", start, want, want)
		})
	}
}

// TestShutdownTimeout has a TLS peer that does not answer close_notify: it does
// not read.
func TestShutdownTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 9 * time.Second} {
		inBubble(t, func(t *testing.T) {
			client, server := TLSOptions()
			client.ShutdownTimeout = limit
			r := new(Recorder)
			ta, tb := PairWith(t, r, new(Recorder), &PairOptions{A: strand.AttachOptions{TLS: client}, B: strand.AttachOptions{TLS: server}})
			tb.PauseReading()
			synctest.Wait()
			start := time.Now()
			ta.Close()
			want := limit
			if want == 0 {
				want = 30 * time.Second // the default
			}
			wantTimeout(t, r, "shutdown", start, want, want)
		})
	}
}

// closingPair is a connection both of whose ends close while each has more to
// send than the network holds.
func closingPair(t *testing.T, closeTimeout time.Duration, secure bool) (ta, tb strand.Transport, a, b *Recorder) {
	o := &PairOptions{Capacity: 1000}
	o.A.CloseTimeout, o.B.CloseTimeout = closeTimeout, closeTimeout
	if secure {
		o.A.TLS, o.B.TLS = TLSOptions()
	}
	a, b = new(Recorder), new(Recorder)
	ta, tb = PairWith(t, a, b, o)
	ta.PauseReading()
	tb.PauseReading()
	for _, tr := range []strand.Transport{ta, tb} {
		_, err := tr.Write(make([]byte, 50_000))
		require.NoError(t, err)
	}
	synctest.Wait()
	ta.Close()
	tb.Close()
	return ta, tb, a, b
}

// TestClosingEndsWaitForEachOther: a closing end does not read, so that both
// wait. CloseTimeout ends that, and with CloseTimeout off only Abort does.
func TestClosingEndsWaitForEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		start := time.Now()
		_, _, a, b := closingPair(t, 0, false)
		err := errors.Join(a.AwaitLost(t), b.AwaitLost(t))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the first to give up resets the other")
		require.Equal(t, 30*time.Second, time.Since(start))
	})
	inBubble(t, func(t *testing.T) {
		ta, tb, a, b := closingPair(t, -1, false)
		time.Sleep(1000 * time.Hour)
		require.False(t, isClosed(ta.Done()) || isClosed(tb.Done()), "somebody has read")
		ta.Abort()
		require.NoError(t, a.AwaitLost(t))
		b.AwaitLost(t)
	})
}

// TestClosingEndsOverTLS: a closing end reads on, to find the peer's goodbye,
// and throws away what it reads.
func TestClosingEndsOverTLS(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		start := time.Now()
		_, _, a, b := closingPair(t, -1, true)
		require.NoError(t, a.AwaitLost(t))
		require.NoError(t, b.AwaitLost(t))
		require.Zero(t, time.Since(start))
		require.Empty(t, string(a.Received())+string(b.Received()))
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

// stuckServer has a connection that cannot finish.
func stuckServer(t *testing.T, o *strand.ServerOptions) (*strand.Server, *Recorder) {
	ln := Listen(1000)
	r := new(Recorder)
	r.OnMade = func(t strand.Transport) { t.Write(make([]byte, 10_000)) } // nobody reads it
	s, err := strand.ServeListener(ln, func() *Recorder { return r }, o)
	require.NoError(t, err)
	conn, err := ln.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	r.AwaitCall(t, "ConnectionMade", 1)
	return s, r
}

func TestServeForeverShutdownTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 11 * time.Second} {
		inBubble(t, func(t *testing.T) {
			o := &strand.ServerOptions{ShutdownTimeout: limit}
			o.CloseTimeout = time.Hour // the connection's own limit comes later
			s, r := stuckServer(t, o)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			err := s.ServeForever(ctx)
			require.ErrorIs(t, err, context.Canceled)
			want := limit
			if want == 0 {
				want = 30 * time.Second // the default
			}
			require.Equal(t, time.Second+want, time.Since(start))
			require.NoError(t, r.AwaitLost(t), "it was aborted")
		})
	}
}

// TestServerShutdownContext: Wait gives up when its context ends, and leaves
// the connection alone; Shutdown aborts it then.
func TestServerShutdownContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := new(strand.ServerOptions)
		o.CloseTimeout = time.Hour
		s, r := stuckServer(t, o)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, s.Wait(ctx), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, []string{"ConnectionMade"}, r.Calls())
		ctx, cancel = context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 11*time.Second, time.Since(start))
		require.NoError(t, r.AwaitLost(t), "it was aborted")
		require.NoError(t, s.Wait(t.Context()))
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

// datagramEnd is a DatagramProtocol that tells of its end.
type datagramEnd struct {
	strand.NopDatagramProtocol
	lost chan error
}

func (d *datagramEnd) ConnectionLost(err error) { d.lost <- err }

// wantTimeout waits for the end.
func (d *datagramEnd) wantTimeout(t *testing.T, op string) {
	t.Helper()
	var timeout *strand.TimeoutError
	require.ErrorAs(t, <-d.lost, &timeout)
	require.Equal(t, op, timeout.Op)
}

func attachEnd(t *testing.T, pc net.PacketConn, o strand.TransportOptions) (strand.DatagramTransport, *datagramEnd) {
	d := &datagramEnd{lost: make(chan error, 1)}
	tr, _, err := strand.AttachPacket(t.Context(), pc, func() *datagramEnd { return d }, &strand.DatagramOptions{TransportOptions: o})
	require.NoError(t, err)
	return tr, d
}

func TestIdleTimeoutOfDatagrams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		pc, peer := PacketPipe(0)
		_, d := attachEnd(t, pc, strand.TransportOptions{IdleTimeout: time.Minute})
		for range 5 {
			time.Sleep(40 * time.Second)
			_, err := peer.WriteTo([]byte("still here"), nil)
			require.NoError(t, err)
		}
		start := time.Now()
		d.wantTimeout(t, "idle")
		require.GreaterOrEqual(t, time.Since(start), time.Minute)
		require.LessOrEqual(t, time.Since(start), 75*time.Second)
	})
}

// fullPacketConn takes no datagram, and waits until it is closed.
type fullPacketConn struct{ *PacketConn }

func (c fullPacketConn) WriteTo([]byte, net.Addr) (int, error) {
	<-c.done
	return 0, net.ErrClosed
}

func TestWriteAndCloseTimeoutOfDatagrams(t *testing.T) {
	for op, o := range map[string]strand.TransportOptions{
		"write": {WriteTimeout: time.Minute},
		"close": {CloseTimeout: time.Minute},
	} {
		inBubble(t, func(t *testing.T) {
			pc, peer := PacketPipe(0)
			tr, d := attachEnd(t, fullPacketConn{pc}, o)
			start := time.Now()
			require.NoError(t, tr.SendTo([]byte("x"), peer.LocalAddr()))
			if op == "close" {
				tr.Close()
			}
			d.wantTimeout(t, op)
			require.GreaterOrEqual(t, time.Since(start), time.Minute)
			require.LessOrEqual(t, time.Since(start), 75*time.Second)
		})
	}
}
