package strand_test

import (
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
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
	r := newDatagramRecorder()
	conn := &oddPacket{PacketConn: k.socket(t), deadline: func(time.Time) error { panic("odd") }}
	opts := strand.TransportOptions{Logger: quiet, IdleTimeout: time.Millisecond}
	attachPacket(t, conn, k, r, &strand.DatagramOptions{TransportOptions: opts})
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
