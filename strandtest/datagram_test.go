package strandtest

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// sink is a DatagramProtocol that keeps copies of what it gets.
type sink struct {
	strand.NopDatagramProtocol
	got   [][]byte
	from  []net.Addr
	lost  int
	inner int // callbacks running
	t     testing.TB
}

func (s *sink) DatagramReceived(data []byte, addr net.Addr) {
	s.inner++
	defer func() { s.inner-- }()
	if s.inner != 1 || s.lost > 0 {
		s.t.Errorf("DatagramReceived came inside a callback, or after the end")
	}
	s.got, s.from = append(s.got, bytes.Clone(data)), append(s.from, addr)
}

func (s *sink) ErrorReceived(err error)  { s.t.Errorf("ErrorReceived(%v)", err) }
func (s *sink) ConnectionLost(err error) { s.lost++ }

// datagram is the n-th of a test: its number, and bytes that follow from it.
func datagram(n, size int) []byte {
	p := binary.BigEndian.AppendUint16(nil, uint16(n))
	return append(p, pattern(n, size)...)
}

func attachPacket(t testing.TB, pc net.PacketConn) (strand.DatagramTransport, *sink) {
	tr, p, err := strand.AttachPacket(t.Context(), pc, func() *sink { return &sink{t: t} }, nil)
	require.NoError(t, err)
	return tr, p
}

// FuzzDatagrams sends batches of datagrams both ways between two endpoints,
// which pause, resume and close as the script says. Every datagram arrives
// whole, once and in order, and none after the end.
func FuzzDatagrams(f *testing.F) {
	f.Add([]byte{0, 10, 0, 0, 1, 255, 4, 0})
	f.Add([]byte{2, 0, 0, 1, 0, 2, 0, 3, 3, 0})
	f.Add([]byte{2, 0, 0, 200, 4, 0, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runDatagrams(t, script) })
	})
}

func runDatagrams(t *testing.T, script []byte) {
	ca, cb := PacketPipe(len(script) + 1)
	ta, a := attachPacket(t, ca)
	tb, b := attachPacket(t, cb)
	var toA, toB [][]byte
	var fromA, closed bool
	for i := 0; i+1 < len(script); i += 2 {
		size := int(script[i+1]) * 8
		switch script[i] % 6 {
		case 0, 1:
			fromA = script[i]%2 == 0
			if fromA {
				toB = sendNext(t, ta, cb.LocalAddr(), toB, size)
			} else {
				toA = sendNext(t, tb, ca.LocalAddr(), toA, size)
			}
		case 2:
			tb.PauseReading()
		case 3:
			tb.ResumeReading()
		case 4:
			ta.SetWriteBufferLimits(size, -1)
		case 5:
			if size > 1500 {
				closed = true
				ta.Close()
			}
		}
		if script[i+1]%2 == 0 {
			synctest.Wait()
		}
	}
	tb.ResumeReading()
	synctest.Wait()
	require.Equal(t, toB, b.got)
	if !closed {
		require.Equal(t, toA, a.got)
	}
	for _, tr := range []strand.DatagramTransport{ta, tb} {
		tr.Close()
		<-tr.Done()
	}
	require.Equal(t, []int{1, 1}, []int{a.lost, b.lost})
}

// sendNext sends the next datagram and returns all that were accepted.
func sendNext(t *testing.T, tr strand.DatagramTransport, to net.Addr, sent [][]byte, size int) [][]byte {
	p := datagram(len(sent), size)
	closing := tr.IsClosing()
	err := tr.SendTo(p, to)
	if closing {
		require.ErrorIs(t, err, net.ErrClosed)
		return sent
	}
	require.NoError(t, err)
	return append(sent, p)
}

// TestDatagramsOverABadNetwork: what arrives is what was sent, though not all,
// not once and not in order.
func TestDatagramsOverABadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 500
		ca, cb := PacketPipe(2 * n)
		bad := PacketFaults{Seed: Seed(t), Lose: 0.2, Duplicate: 0.2, Reorder: 0.2}
		ta, _ := attachPacket(t, bad.PacketConn(ca))
		tb, b := attachPacket(t, cb)
		for i := range n {
			require.NoError(t, ta.SendTo(datagram(i, i), cb.LocalAddr()))
		}
		ta.Close()
		<-ta.Done()
		synctest.Wait()
		tb.Close()
		<-tb.Done()
		require.InDelta(t, n, len(b.got), 0.9*n)
		for i, p := range b.got {
			k := int(binary.BigEndian.Uint16(p))
			require.Equal(t, datagram(k, k), p)
			require.Equal(t, ca.LocalAddr().String(), b.from[i].String())
		}
	})
}

// TestDatagramIdleTimeout is the time limit that datagrams have.
func TestDatagramIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, cb := PacketPipe(0)
		defer cb.Close()
		o := &strand.DatagramOptions{TransportOptions: strand.TransportOptions{IdleTimeout: time.Minute}}
		tr, p, err := strand.AttachPacket(t.Context(), ca, func() *sink { return &sink{t: t} }, o)
		require.NoError(t, err)
		start := time.Now()
		<-tr.Done()
		require.InDelta(t, time.Minute, time.Since(start), float64(15*time.Second))
		require.Equal(t, 1, p.lost)
	})
}
