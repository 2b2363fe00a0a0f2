package strand_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
)

// Packet conns of the caller's that do what they should not.

// oddPacket has methods that can be replaced.
type oddPacket struct {
	net.PacketConn
	read, write func(p []byte) (int, error)
	close       func() error
	deadline    func(t time.Time) error // of reading
	reading     chan struct{}           // not nil: has something for each ReadFrom
}

func (c *oddPacket) ReadFrom(p []byte) (int, net.Addr, error) {
	if c.reading != nil {
		c.reading <- struct{}{}
	}
	if c.read == nil {
		return c.PacketConn.ReadFrom(p)
	}
	n, err := c.read(p)
	return n, c.LocalAddr(), err
}

func (c *oddPacket) WriteTo(p []byte, addr net.Addr) (int, error) {
	if c.write == nil {
		return c.PacketConn.WriteTo(p, addr)
	}
	return c.write(p)
}

func (c *oddPacket) Close() error {
	if c.close == nil {
		return c.PacketConn.Close()
	}
	return errors.Join(c.PacketConn.Close(), c.close())
}

func (c *oddPacket) SetReadDeadline(t time.Time) error {
	if c.deadline == nil {
		return c.PacketConn.SetReadDeadline(t)
	}
	return c.deadline(t)
}

// DG-12, EX-10: whatever a method of the conn does, it takes nobody along: the
// endpoint ends, once, with a *PanicError if it was not ending anyway.
func TestOddPacketConns(t *testing.T) {
	for name, fail := range map[string]func(){"panics": func() { panic("odd") }, "exits": runtime.Goexit} {
		io := func([]byte) (int, error) { fail(); return 0, nil }
		close := func() error { fail(); return nil }
		for _, c := range []struct {
			name       string
			conn       oddPacket
			inCallback func(tr strand.DatagramTransport)
			inReadFrom func(tr strand.DatagramTransport) // called from elsewhere
			want       string
		}{
			{name: "ReadFrom", conn: oddPacket{read: io}, want: "panic"},
			{name: "WriteTo", conn: oddPacket{write: io}, want: "panic"},
			{
				name:       "SetReadDeadline",
				conn:       oddPacket{deadline: func(time.Time) error { return close() }},
				inReadFrom: strand.DatagramTransport.PauseReading,
				want:       "panic",
			},
			{name: "Close", conn: oddPacket{close: close}, inCallback: strand.DatagramTransport.Abort, want: "nil"},
			{name: "Close in ReadFrom", conn: oddPacket{close: close}, inReadFrom: strand.DatagramTransport.Abort, want: "nil"},
		} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				k := datagramKinds[0]
				c.conn.PacketConn, c.conn.reading = k.socket(t), make(chan struct{}, 2)
				r := newDatagramRecorder()
				r.onMade = func(tr strand.DatagramTransport) {
					require.NoError(t, tr.SendTo([]byte("x"), to(tr)))
				}
				r.onDatagram = func([]byte, net.Addr) {
					if c.inCallback != nil {
						c.inCallback(r.tr)
					}
				}
				opts := &strand.DatagramOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
				tr := attachPacket(t, &c.conn, k, r, opts)
				if c.inReadFrom != nil {
					for range 2 { // one brings what ConnectionMade has sent
						await(t, "a ReadFrom", c.conn.reading)
					}
					inGoroutine(t, func() { c.inReadFrom(tr) })
				}
				await(t, "the end", tr.Done())
				calls := r.trace()
				require.Equal(t, "ConnectionLost "+c.want, calls[len(calls)-1])
				require.Empty(t, r.broken)
				require.Zero(t, tr.WriteBufferSize())
				_, err := c.conn.PacketConn.WriteTo(nil, to(tr))
				require.ErrorIs(t, err, net.ErrClosed, "the conn is closed")
			})
		}
	}
}

// inGoroutine runs fn, which may call runtime.Goexit.
func inGoroutine(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	await(t, "a call that returns", done)
}

// A SetReadDeadline that panics does so in a goroutine of its own, the timer's.
func TestOddPacketConnAndTimer(t *testing.T) {
	k := datagramKinds[0]
	conn := func() net.PacketConn {
		return &oddPacket{PacketConn: k.socket(t), deadline: func(time.Time) error { panic("odd") }}
	}
	opts := strand.TransportOptions{Logger: quiet, IdleTimeout: time.Millisecond}
	r := idleDatagrams(t, conn, &strand.DatagramOptions{TransportOptions: opts})
	var timeout *strand.TimeoutError
	require.ErrorAs(t, r.awaitLost(t), &timeout, "the first cause wins")
}

// DG-20, DG-17: what a foreign conn has not taken yet counts, and Abort forgets
// it, also what the conn is writing at that moment.
func TestDatagramAbortInWriteTo(t *testing.T) {
	k := datagramKinds[0]
	writing, goOn := make(chan struct{}), make(chan struct{})
	conn := &oddPacket{PacketConn: k.socket(t), write: func(p []byte) (int, error) {
		close(writing)
		<-goOn
		return len(p), nil
	}}
	r := newDatagramRecorder()
	tr := attachPacket(t, conn, k, r, nil)
	for range 2 {
		require.NoError(t, tr.SendTo([]byte("x"), to(tr)))
	}
	await(t, "WriteTo", writing)
	require.Equal(t, 2*(1+8), tr.WriteBufferSize())
	tr.Abort()
	require.Zero(t, tr.WriteBufferSize())
	close(goOn)
	require.NoError(t, r.awaitLost(t))
	require.Zero(t, tr.WriteBufferSize(), "what WriteTo has written after all is not given back twice")
}

// whereConn tells where its datagrams go, one by one.
type whereConn struct {
	net.PacketConn
	where chan string
}

func (c *whereConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.where <- addr.String()
	return len(p), nil
}

// DG-09: what is queued is private, its address too.
func TestDatagramPrivateAddress(t *testing.T) {
	k := datagramKinds[0]
	conn := &whereConn{PacketConn: k.socket(t), where: make(chan string)}
	tr := attachPacket(t, conn, k, newDatagramRecorder(), nil)
	addr := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	for range 2 {
		require.NoError(t, tr.SendTo([]byte("x"), addr))
		addr.IP[15]++
		addr.Port++
	}
	require.Equal(t, "192.0.2.1:1", await(t, "the first datagram", conn.where))
	require.Equal(t, "192.0.2.2:2", await(t, "the second", conn.where))
}

// A conn that says again and again that it was too late, although it has no
// deadline, does not keep a processor busy.
func TestDatagramConnThatTimesOut(t *testing.T) {
	timesOut := func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
	t.Run("ReadFrom", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			reads := 0
			conn, peer := strandtest.PacketPipe(0)
			defer peer.Close()
			r := newDatagramRecorder()
			tr, _, err := strand.AttachPacket(context.Background(), &oddPacket{PacketConn: conn, read: func(p []byte) (int, error) {
				if reads++; reads == 1000 {
					return copy(p, "at last"), nil
				}
				return timesOut(p)
			}}, func() *datagramRecorder { return r }, nil)
			require.NoError(t, err)
			time.Sleep(time.Second)
			tr.Abort()
			<-tr.Done()
			require.Less(t, reads, 100)
			r.wantCalls(t, "a timeout is no error", "ConnectionMade", "ConnectionLost nil")
		})
	})
	t.Run("WriteTo", func(t *testing.T) {
		r := newDatagramRecorder()
		tr := attachPacket(t, &oddPacket{PacketConn: datagramKinds[0].socket(t), write: timesOut}, datagramKinds[0], r, nil)
		require.NoError(t, tr.SendTo([]byte("x"), to(tr)))
		require.ErrorIs(t, r.awaitErrors(t, 1)[0], os.ErrDeadlineExceeded)
		require.NoError(t, tr.Close())
		require.NoError(t, r.awaitLost(t))
	})
}

// DG-10: errors that come one by one, as those of a peer that is away for long,
// hold up nothing, however many they are.
func TestDatagramErrorsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := strandtest.PacketPipe(0)
		defer peer.Close()
		reads := 0
		r := newDatagramRecorder()
		start := time.Now()
		tr, _, err := strand.AttachPacket(context.Background(), &oddPacket{PacketConn: conn, read: func(p []byte) (int, error) {
			time.Sleep(100 * time.Millisecond)
			if reads++; reads <= 50 {
				return 0, syscall.ECONNREFUSED
			}
			return copy(p, "back"), nil
		}}, func() *datagramRecorder { return r }, nil)
		require.NoError(t, err)
		r.awaitPackets(t, 1)
		require.Equal(t, 51*100*time.Millisecond, time.Since(start))
		require.Len(t, r.awaitErrors(t, 50), 50)
		tr.Abort()
		<-tr.Done()
	})
}

// A deadline that somebody else has set costs no datagram.
func TestDatagramForeignDeadline(t *testing.T) {
	k := datagramKinds[0]
	conn := k.socket(t)
	peer := k.socket(t)
	r := newDatagramRecorder()
	tr := attachPacket(t, conn, datagramKinds[4], r, nil)
	for range 3 {
		require.NoError(t, conn.SetDeadline(time.Unix(1, 0)))
		require.NoError(t, tr.SendTo([]byte("x"), to(peer)))
		got, from := readPacket(t, peer)
		require.Equal(t, "x", got)
		writePacket(t, peer, "y", from)
	}
	r.awaitPackets(t, 3)
	require.NoError(t, tr.Close())
	require.NoError(t, r.awaitLost(t))
	require.Empty(t, r.errs)
}

// anonymousConn has no address.
type anonymousConn struct{ oddPacket }

func (*anonymousConn) LocalAddr() net.Addr { return nil }

// A conn need not have an address, not even for the text of an error. DG-02: what
// may have been cut off is such an error, and not delivered.
func TestDatagramConnWithoutAddress(t *testing.T) {
	first := true
	conn := &anonymousConn{oddPacket{PacketConn: datagramKinds[0].socket(t)}}
	conn.read = func(p []byte) (int, error) {
		if first {
			first = false
			return len(p), nil
		}
		return 0, net.ErrClosed
	}
	r := newDatagramRecorder()
	tr := attachPacket(t, conn, datagramKinds[0], r, nil)
	require.Nil(t, tr.ExtraInfo(strand.ExtraSockname))
	require.ErrorIs(t, r.awaitErrors(t, 1)[0], syscall.EMSGSIZE)
	require.ErrorIs(t, r.awaitLost(t), net.ErrClosed)
	r.wantCalls(t, "nothing that was cut", "ConnectionMade", "ErrorReceived", "ConnectionLost "+net.ErrClosed.Error())
}

// DB-01: all callbacks are timed.
func TestSlowDatagramCallbacks(t *testing.T) {
	var log logBuffer
	opts := logTo(&log)
	opts.Debug, opts.SlowCallback = true, 1 // a nanosecond
	answers := []error{nil, errors.New("odd"), net.ErrClosed}
	read := func(p []byte) (int, error) {
		err := answers[0]
		answers = answers[1:]
		return 0, err
	}
	r := newDatagramRecorder()
	tr := attachPacket(t, &oddPacket{PacketConn: datagramKinds[0].socket(t), read: read}, datagramKinds[0], r, &strand.DatagramOptions{TransportOptions: opts})
	await(t, "the end", tr.Done())
	r.wantCalls(t, "each once", "ConnectionMade", "DatagramReceived 0", "ErrorReceived", "ConnectionLost "+net.ErrClosed.Error())
	require.Equal(t, 4, strings.Count(log.String(), "slow callback"), log.String())
}
