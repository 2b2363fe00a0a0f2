package strand_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// datagramRecorder is a DatagramProtocol that notes every callback, as recorder
// does.
type datagramRecorder struct {
	*recorder
	onMade     func(t strand.DatagramTransport)
	onDatagram func(data []byte, from net.Addr)
	onError    func(err error)

	// Guarded by the recorder's mu.
	tr      strand.DatagramTransport
	packets []string
	senders []net.Addr
	errs    []error
}

func newDatagramRecorder() *datagramRecorder { return &datagramRecorder{recorder: newRecorder()} }

func (r *datagramRecorder) ConnectionMade(t strand.DatagramTransport) {
	defer r.enter("ConnectionMade")()
	r.mu.Lock()
	r.tr = t
	r.mu.Unlock()
	if r.onMade != nil {
		r.onMade(t)
	}
}

func (r *datagramRecorder) DatagramReceived(data []byte, from net.Addr) {
	defer r.enter(fmt.Sprintf("DatagramReceived %d", len(data)))()
	r.mu.Lock()
	r.packets = append(r.packets, string(data))
	r.senders = append(r.senders, from)
	r.tell()
	r.mu.Unlock()
	if r.onDatagram != nil {
		r.onDatagram(data, from)
	}
}

func (r *datagramRecorder) ErrorReceived(err error) {
	defer r.enter("ErrorReceived")()
	r.mu.Lock()
	r.errs = append(r.errs, err)
	r.tell()
	r.mu.Unlock()
	if r.onError != nil {
		r.onError(err)
	}
}

// transport is the one that ConnectionMade got.
func (r *datagramRecorder) transport() strand.DatagramTransport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tr
}

// awaitPackets waits until n datagrams were received, and returns them with
// their senders.
func (r *datagramRecorder) awaitPackets(t testing.TB, n int) ([]string, []net.Addr) {
	t.Helper()
	r.await(t, fmt.Sprintf("%d datagrams", n), func() bool { return len(r.packets) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.packets), slices.Clone(r.senders)
}

// awaitErrors waits until n errors were received, and returns them.
func (r *datagramRecorder) awaitErrors(t testing.TB, n int) []error {
	t.Helper()
	r.await(t, fmt.Sprintf("%d errors", n), func() bool { return len(r.errs) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.errs)
}

// awaitLost waits for ConnectionLost to have returned, and returns its error.
func (r *datagramRecorder) awaitLost(t testing.TB) error {
	t.Helper()
	r.awaitCall(t, "ConnectionLost")
	await(t, "Done", r.transport().Done())
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// A datagramKind is a sort of socket that the transport must not tell apart.
type datagramKind struct {
	name    string
	network string
	// address returns an address that is free.
	address func(t testing.TB) string
	wrap    func(net.PacketConn) net.PacketConn
}

var datagramKinds = []datagramKind{
	{"udp4", "udp4", loopback4, nil},
	{"udp6", "udp6", func(testing.TB) string { return "[::1]:0" }, nil},
	{"dual", "udp", func(testing.TB) string { return ":0" }, nil},
	{"unixgram", "unixgram", unixPath, nil},
	{"portable", "udp4", loopback4, foreignPacketConn},
}

func loopback4(testing.TB) string { return ownHost + ":0" }

func unixPath(t testing.TB) string { return filepath.Join(shortTempDir(t), "s") }

// eachDatagramKind runs a test over every kind of socket.
func eachDatagramKind(t *testing.T, test func(t *testing.T, k datagramKind)) {
	for _, k := range datagramKinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

// foreignPacket hides what a conn is, so that only its methods can be used.
type foreignPacket struct{ net.PacketConn }

// foreignConnected is one that knows its peer.
type foreignConnected struct {
	foreignPacket
	net.Conn
}

func (f foreignConnected) Close() error                       { return f.Conn.Close() }
func (f foreignConnected) LocalAddr() net.Addr                { return f.Conn.LocalAddr() }
func (f foreignConnected) SetDeadline(t time.Time) error      { return f.Conn.SetDeadline(t) }
func (f foreignConnected) SetReadDeadline(t time.Time) error  { return f.Conn.SetReadDeadline(t) }
func (f foreignConnected) SetWriteDeadline(t time.Time) error { return f.Conn.SetWriteDeadline(t) }

func foreignPacketConn(pc net.PacketConn) net.PacketConn {
	if c, ok := pc.(net.Conn); ok && c.RemoteAddr() != nil {
		return foreignConnected{foreignPacket{pc}, c}
	}
	return foreignPacket{pc}
}

// socket is a socket of the kind, closed with the test.
func (k datagramKind) socket(t testing.TB) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket(k.network, k.address(t))
	if err != nil && k.network != "udp4" {
		t.Skipf("no %s here: %v", k.network, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	return pc
}

// to is where others reach a socket: one that listens everywhere has an address
// to which nothing can be sent.
func to(pc interface{ LocalAddr() net.Addr }) net.Addr {
	if u, ok := pc.LocalAddr().(*net.UDPAddr); ok && u.IP.IsUnspecified() {
		return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: u.Port}
	}
	return pc.LocalAddr()
}

// endpoint makes a socket of the kind a transport of r, which is aborted with
// the test.
func (k datagramKind) endpoint(t testing.TB, r *datagramRecorder, opts *strand.DatagramOptions) strand.DatagramTransport {
	t.Helper()
	return attachPacket(t, k.socket(t), k, r, opts)
}

func attachPacket(t testing.TB, pc net.PacketConn, k datagramKind, r *datagramRecorder, opts *strand.DatagramOptions) strand.DatagramTransport {
	t.Helper()
	if k.wrap != nil {
		pc = k.wrap(pc)
	}
	tr, p, err := strand.AttachPacket(context.Background(), pc, func() *datagramRecorder { return r }, opts)
	require.NoError(t, err)
	require.Same(t, r, p)
	endWith(t, tr)
	return tr
}

func endWith(t testing.TB, tr strand.DatagramTransport) {
	t.Cleanup(func() {
		tr.Abort()
		await(t, "the end after Abort", tr.Done())
	})
}

// connectedTo is endpoint with a socket that is connected to peer.
func (k datagramKind) connectedTo(t testing.TB, peer net.PacketConn, r *datagramRecorder, opts *strand.DatagramOptions) strand.DatagramTransport {
	t.Helper()
	d := net.Dialer{}
	if k.network == "unixgram" {
		d.LocalAddr = &net.UnixAddr{Name: k.address(t), Net: "unixgram"}
	}
	c, err := d.Dial(k.network, to(peer).String())
	require.NoError(t, err)
	return attachPacket(t, c.(net.PacketConn), k, r, opts)
}

// createDatagram is CreateDatagramEndpoint with r, which has to work.
func createDatagram(t testing.TB, network, local, remote string, r *datagramRecorder, opts *strand.DatagramOptions) strand.DatagramTransport {
	t.Helper()
	tr, p, err := strand.CreateDatagramEndpoint(context.Background(), network, local, remote, func() *datagramRecorder { return r }, opts)
	require.NoError(t, err)
	require.Same(t, r, p)
	endWith(t, tr)
	return tr
}

// readPacket is one datagram that a plain socket gets.
func readPacket(t testing.TB, pc net.PacketConn) (string, net.Addr) {
	t.Helper()
	buf := make([]byte, 70_000)
	require.NoError(t, pc.SetReadDeadline(time.Now().Add(patience)))
	n, from, err := pc.ReadFrom(buf)
	require.NoError(t, err)
	return string(buf[:n]), from
}

func writePacket(t testing.TB, pc net.PacketConn, data string, addr net.Addr) {
	t.Helper()
	_, err := pc.WriteTo([]byte(data), addr)
	require.NoError(t, err)
}

// queueBehind sends numbered datagrams to a socket that nobody reads until some
// are queued, and returns how many were sent in all. Only Unix sockets make a
// sender wait.
func queueBehind(t testing.TB, tr strand.DatagramTransport, addr net.Addr) (sent int) {
	t.Helper()
	for ; tr.WriteBufferSize() == 0; sent++ {
		require.Less(t, sent, 100_000, "the kernel's queue has an end")
		require.NoError(t, tr.SendTo(fmt.Appendf(nil, "%d", sent), addr))
	}
	return sent
}

func needsFullQueue(t testing.TB) {
	if runtime.GOOS != "linux" {
		t.Skip("a full Unix socket refuses datagrams here instead of making the sender wait")
	}
}

// unixKind is the one whose receivers make a sender wait.
var unixKind = datagramKinds[3]

// DG-01, DG-08: made before the creating call returns; each datagram comes
// whole with its sender's address, empty ones too, both ways.
func TestDatagramExchange(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, r.tr.SendTo(data, from)) }
		peer := k.socket(t)
		tr := k.endpoint(t, r, nil)
		require.Equal(t, []string{"ConnectionMade"}, r.trace(), "ConnectionMade has returned")
		for _, data := range []string{"hello", "", "again"} {
			writePacket(t, peer, data, to(tr))
			answer, from := readPacket(t, peer)
			require.Equal(t, data, answer)
			require.Equal(t, to(tr).String(), from.String())
		}
		packets, senders := r.awaitPackets(t, 3)
		require.Equal(t, []string{"hello", "", "again"}, packets)
		for _, from := range senders {
			require.Equal(t, to(peer).String(), from.String())
		}
		require.NoError(t, tr.Close())
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "the whole life", "ConnectionMade", "DatagramReceived 5", "DatagramReceived 0", "DatagramReceived 5", "ConnectionLost nil")
	})
}

// A peer just seen has the same address, which is not made anew.
func TestDatagramAddrIsKept(t *testing.T) {
	for _, k := range datagramKinds[:4] {
		t.Run(k.name, func(t *testing.T) {
			r := newDatagramRecorder()
			one, two := k.socket(t), k.socket(t)
			tr := k.endpoint(t, r, nil)
			for range 2 {
				writePacket(t, one, "x", to(tr))
				writePacket(t, two, "x", to(tr))
			}
			_, senders := r.awaitPackets(t, 4)
			require.Same(t, senders[0], senders[2])
			require.Same(t, senders[1], senders[3])
			require.NotSame(t, senders[0], senders[1])
		})
	}
}

// DG-01: a Unix socket without a name has no address.
func TestDatagramFromUnnamedSocket(t *testing.T) {
	r := newDatagramRecorder()
	tr := unixKind.endpoint(t, r, nil)
	c, err := net.Dial("unixgram", tr.LocalAddr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("who am I"))
	require.NoError(t, err)
	_, senders := r.awaitPackets(t, 1)
	require.Equal(t, []net.Addr{nil}, senders)
	var missing *net.AddrError
	require.ErrorAs(t, tr.SendTo(nil, senders[0]), &missing)
}

// DG-02: nothing is cut, up to the largest datagram that UDP has.
func TestDatagramLargest(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, r.tr.SendTo(data, from)) }
		peer := k.socket(t)
		tr := k.endpoint(t, r, nil)
		data := strings.Repeat("0123456789", 6_551)[:65_507]
		writePacket(t, peer, data, to(tr))
		answer, _ := readPacket(t, peer)
		require.True(t, answer == data, "%d bytes came back", len(answer))
	})
}

// DG-10: what the kernel refuses goes to ErrorReceived, in turn, and the
// endpoint goes on.
func TestDatagramTooLarge(t *testing.T) {
	for _, k := range []datagramKind{datagramKinds[0], datagramKinds[1], datagramKinds[4]} {
		t.Run(k.name, func(t *testing.T) {
			peer := k.socket(t)
			r := newDatagramRecorder()
			r.onMade = func(tr strand.DatagramTransport) {
				require.NoError(t, tr.SetWriteBufferLimits(1<<20, -1))
				require.NoError(t, tr.SendTo(make([]byte, 65_536), to(peer)))
				require.NoError(t, tr.SendTo([]byte("ok"), to(peer)))
			}
			r.onError = func(error) { require.False(t, r.tr.IsClosing()) }
			k.endpoint(t, r, nil)
			got, _ := readPacket(t, peer)
			require.Equal(t, "ok", got)
			err := r.awaitErrors(t, 1)[0]
			require.ErrorIs(t, err, syscall.EMSGSIZE)
			var op *net.OpError
			require.ErrorAs(t, err, &op)
			require.Equal(t, to(peer).String(), op.Addr.String(), "the error says where it was to go")
			r.wantCalls(t, "never nested, the endpoint stays", "ConnectionMade", "ErrorReceived")
		})
	}
}

// closedAddr is an address at which nobody is. Over UDP a socket that hears one
// peer only has the port, so that nobody else takes it.
func (k datagramKind) closedAddr(t testing.TB) net.Addr {
	t.Helper()
	pc := k.socket(t)
	require.NoError(t, pc.Close())
	u, ok := pc.LocalAddr().(*net.UDPAddr)
	if !ok {
		return to(pc)
	}
	held, err := net.DialUDP(k.network, &net.UDPAddr{IP: u.IP}, &net.UDPAddr{IP: u.IP, Port: 9})
	require.NoError(t, err)
	t.Cleanup(func() { held.Close() })
	return held.LocalAddr()
}

// DG-10, DG-11: a connected endpoint hears that its peer is not there, and goes
// on.
func TestDatagramRefused(t *testing.T) {
	for _, k := range datagramKinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			r := newDatagramRecorder()
			tr := createDatagram(t, k.network, "", k.closedAddr(t).String(), r, nil)
			for n := range 3 {
				require.NoError(t, tr.SendTo([]byte("anybody?"), nil))
				require.ErrorIs(t, r.awaitErrors(t, n+1)[n], syscall.ECONNREFUSED)
			}
			require.False(t, tr.IsClosing())
		})
	}
}

// DG-10: a Unix socket hears it at once, whether the peer has gone or its file
// was never there.
func TestDatagramRefusedUnix(t *testing.T) {
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	tr := createDatagram(t, "unixgram", "", to(peer).String(), r, nil)
	require.NoError(t, peer.Close())
	for n := range 3 {
		require.NoError(t, tr.SendTo([]byte("anybody?"), nil))
		require.Error(t, r.awaitErrors(t, n+1)[n])
	}
	require.ErrorIs(t, r.awaitErrors(t, 1)[0], syscall.ECONNREFUSED)
	require.False(t, tr.IsClosing())
}

// DG-11: one that is not connected hears nothing.
func TestDatagramRefusedUnconnected(t *testing.T) {
	k := datagramKinds[0]
	r := newDatagramRecorder()
	tr := k.endpoint(t, r, nil)
	require.NoError(t, tr.SendTo([]byte("anybody?"), k.closedAddr(t)))
	require.NoError(t, tr.SendTo([]byte("me"), to(tr))) // comes after whatever there was to hear
	r.awaitPackets(t, 1)
	r.wantCalls(t, "no error", "ConnectionMade", "DatagramReceived 2")
}

// DG-05, DG-06: a connected endpoint sends to its peer, named or not, and
// nowhere else, however it was made.
func TestDatagramConnected(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer, other := k.socket(t), k.socket(t)
		r := newDatagramRecorder()
		tr := k.connectedTo(t, peer, r, nil)
		require.NoError(t, tr.SendTo([]byte("1"), nil))
		require.NoError(t, tr.SendTo([]byte("2"), to(peer)))
		var wrong *net.AddrError
		require.ErrorAs(t, tr.SendTo([]byte("3"), to(other)), &wrong)
		require.Contains(t, wrong.Error(), to(peer).String(), "the error names the peer")
		if u, ok := to(peer).(*net.UDPAddr); ok {
			require.NoError(t, tr.SendToAddrPort([]byte("4"), u.AddrPort()))
			require.NoError(t, tr.SendToAddrPort([]byte("5"), netip.AddrPort{}))
			require.Error(t, tr.SendToAddrPort([]byte("6"), to(other).(*net.UDPAddr).AddrPort()))
			require.Error(t, tr.SendToAddrPort([]byte("7"), netip.AddrPortFrom(netip.Addr{}, 9)), "a port alone is an address, as in SendTo")
		} else {
			require.NoError(t, tr.SendTo([]byte("4"), (*net.UnixAddr)(nil)))
			require.NoError(t, tr.SendTo([]byte("5"), nil))
		}
		for _, want := range []string{"1", "2", "4", "5"} {
			got, from := readPacket(t, peer)
			require.Equal(t, want, got)
			writePacket(t, peer, "for "+got, from)
		}
		packets, _ := r.awaitPackets(t, 4)
		require.Equal(t, []string{"for 1", "for 2", "for 4", "for 5"}, packets)
		require.Equal(t, to(peer).String(), tr.RemoteAddr().String())
	})
}

// DG-07: no address on an endpoint that has no peer is a returned error, and so
// is one of another sort.
func TestDatagramBadAddress(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		tr := k.endpoint(t, r, nil)
		var bad *net.AddrError
		require.ErrorAs(t, tr.SendTo([]byte("x"), nil), &bad)
		require.ErrorAs(t, tr.SendTo([]byte("x"), (*net.UDPAddr)(nil)), &bad)
		require.ErrorAs(t, tr.SendToAddrPort([]byte("x"), netip.AddrPort{}), &bad)
		if k.wrap == nil {
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.TCPAddr{}), &bad)
		}
		switch k.name {
		case "udp4":
			require.ErrorAs(t, tr.SendToAddrPort([]byte("x"), netip.MustParseAddrPort("[::1]:9")), &bad)
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.UnixAddr{Name: "x"}), &bad)
			for _, addr := range []net.UDPAddr{
				{IP: net.IPv4(127, 0, 0, 1), Port: 9 + 1<<16}, {IP: net.IPv4(127, 0, 0, 1), Port: -1}, {IP: net.IP{127, 0, 1}, Port: 9},
			} {
				require.ErrorAs(t, tr.SendTo([]byte("x"), &addr), &bad, "what is no address is not taken for another")
			}
		case "udp6":
			require.ErrorAs(t, tr.SendToAddrPort([]byte("x"), netip.MustParseAddrPort("[fe80::1%nowhere]:9")), &bad)
		case "unixgram":
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.UDPAddr{IP: net.IPv6loopback, Port: 9}), &bad)
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.UnixAddr{}), &bad)
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.UnixAddr{Name: strings.Repeat("x", 200)}), &bad)
			require.ErrorAs(t, tr.SendTo([]byte("x"), &net.UnixAddr{Name: to(tr).String() + "\x00x"}), &bad, "what is no path is not taken for another")
		}
		require.False(t, tr.IsClosing())
		r.wantCalls(t, "a bad address is the caller's affair alone", "ConnectionMade")
	})
}

// DG-03: pausing holds datagrams back, those of the same batch too; there is no
// Write.
func TestDatagramPauseReading(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		r := newDatagramRecorder()
		r.onMade = func(tr strand.DatagramTransport) { tr.PauseReading() }
		paused := make(chan struct{}, 3)
		r.onDatagram = func([]byte, net.Addr) {
			r.tr.PauseReading()
			paused <- struct{}{}
		}
		tr := k.endpoint(t, r, nil)
		_, writes := tr.(io.Writer)
		require.False(t, writes)
		require.False(t, tr.IsReading())
		for _, data := range []string{"a", "b", "c"} {
			writePacket(t, peer, data, to(tr))
		}
		for n := range 3 {
			ran := make(chan struct{})
			require.True(t, tr.CallSoon(func() { close(ran) }))
			await(t, "CallSoon while paused", ran)
			require.Len(t, r.packets, n, "nothing comes while paused")
			tr.ResumeReading()
			await(t, "a datagram", paused)
			require.False(t, tr.IsReading())
		}
		packets, _ := r.awaitPackets(t, 3)
		require.Equal(t, []string{"a", "b", "c"}, packets)
	})
}

// What is received behind a pause from elsewhere is held, not lost.
func TestDatagramPauseFromElsewhere(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		r := newDatagramRecorder()
		tr := k.endpoint(t, r, nil)
		const n = 200
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range n {
				tr.PauseReading()
				tr.ResumeReading()
			}
		}()
		for i := range n {
			writePacket(t, peer, fmt.Sprint(i), to(tr))
			r.awaitPackets(t, i+1)
		}
		await(t, "the end of the pauses", done)
	})
}

// DG-09, DG-14, FC-10: what the kernel does not take is queued as a private
// copy, and goes out in order, also after Close.
func TestDatagramQueue(t *testing.T) {
	needsFullQueue(t)
	for _, connected := range []bool{true, false} {
		t.Run(fmt.Sprintf("connected=%v", connected), func(t *testing.T) {
			peer := unixKind.socket(t)
			r := newDatagramRecorder()
			var tr strand.DatagramTransport
			addr := to(peer)
			if connected {
				tr, addr = unixKind.connectedTo(t, peer, r, nil), nil
			} else {
				tr = unixKind.endpoint(t, r, nil)
			}
			sent := queueBehind(t, tr, addr)
			buf := []byte("private")
			require.NoError(t, tr.SendTo(buf, addr))
			clear(buf)
			require.NoError(t, tr.Close())
			require.NoError(t, tr.Close())
			require.ErrorIs(t, tr.SendTo([]byte("late"), addr), net.ErrClosed)
			for i := range sent {
				got, _ := readPacket(t, peer)
				require.Equal(t, fmt.Sprint(i), got)
			}
			got, _ := readPacket(t, peer)
			require.Equal(t, "private", got)
			require.NoError(t, r.awaitLost(t))
			r.wantCalls(t, "closed when the queue was out", "ConnectionMade", "ConnectionLost nil")
			require.Zero(t, tr.WriteBufferSize())
		})
	}
}

// DG-14, DG-15, DG-20: Abort drops what is queued, so that the buffer is empty;
// nothing can be sent afterwards.
func TestDatagramAbort(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	tr := unixKind.connectedTo(t, peer, r, nil)
	sent := queueBehind(t, tr, nil)
	tr.Abort()
	tr.Abort()
	require.True(t, tr.IsClosing())
	require.Zero(t, tr.WriteBufferSize(), "as on every transport (CL-03)")
	require.NoError(t, r.awaitLost(t))
	for range sent - 1 {
		readPacket(t, peer)
	}
	writePacket(t, unixKind.socket(t), "behind them", to(peer))
	got, _ := readPacket(t, peer)
	require.Equal(t, "behind them", got, "what was queued is dropped")
	require.ErrorIs(t, tr.SendTo([]byte("late"), nil), net.ErrClosed)
	require.ErrorIs(t, tr.SendTo([]byte("late"), &net.TCPAddr{}), net.ErrClosed)
	require.NoError(t, tr.Close())
	r.wantCalls(t, "once", "ConnectionMade", "ConnectionLost nil")
}

// DG-15: SendTo after Close is refused on every kind, and accessors go on.
func TestDatagramAfterClose(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		r := newDatagramRecorder()
		tr := k.endpoint(t, r, nil)
		local := tr.LocalAddr().String()
		require.NoError(t, tr.Close())
		require.ErrorIs(t, tr.SendTo([]byte("late"), to(peer)), net.ErrClosed)
		require.NoError(t, r.awaitLost(t))
		require.ErrorIs(t, tr.SendTo([]byte("late"), to(peer)), net.ErrClosed)
		tr.PauseReading()
		tr.ResumeReading()
		require.False(t, tr.IsReading())
		require.False(t, tr.Writable())
		require.False(t, tr.CallSoon(func() {}))
		require.Equal(t, local, tr.LocalAddr().String())
		require.Equal(t, context.Cause(tr.Context()), net.ErrClosed)
		again, err := net.ListenPacket(k.network, local)
		if k.network != "unixgram" { // the file of a socket that was attached is its maker's
			require.NoError(t, err, "the descriptor is closed")
			again.Close()
		}
	})
}

// DG-16, FC-04, FC-07, FC-08: pause comes right after the callback in which the
// mark was crossed, resume when the low mark is reached.
func TestDatagramFlowControl(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	sent := 0
	r.onMade = func(tr strand.DatagramTransport) {
		require.NoError(t, tr.SetWriteBufferLimits(100, 50))
		require.True(t, tr.CallSoon(func() { r.enter("posted")() }))
		sent = queueBehind(t, tr, nil)
		require.NoError(t, tr.SendTo(make([]byte, 100), nil))
		require.False(t, tr.Writable(), "at once")
	}
	tr := unixKind.connectedTo(t, peer, r, nil)
	low, high := tr.WriteBufferLimits()
	require.Equal(t, [2]int{50, 100}, [2]int{low, high})
	r.awaitCall(t, "posted")
	for range sent + 1 {
		readPacket(t, peer)
	}
	r.awaitCall(t, "ResumeWriting")
	require.True(t, tr.Writable())
	r.wantCalls(t, "pause before everything else", "ConnectionMade", "PauseWriting", "posted", "ResumeWriting")
	require.Error(t, tr.SetWriteBufferLimits(1, 2))
}

// DG-17: each queued datagram counts for eight bytes more than it has, and all
// of it is given back.
func TestDatagramAccounting(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	tr := unixKind.connectedTo(t, peer, r, &strand.DatagramOptions{TransportOptions: strand.TransportOptions{WriteBufferMax: 1000}})
	sent := queueBehind(t, tr, nil)
	size := tr.WriteBufferSize()
	require.Equal(t, len(fmt.Sprint(sent-1))+8, size)
	for range 3 {
		require.NoError(t, tr.SendTo(nil, nil))
	}
	require.Equal(t, size+3*8, tr.WriteBufferSize())
	require.ErrorIs(t, tr.SendTo(make([]byte, 1000), nil), strand.ErrBufferFull)
	require.Equal(t, size+3*8, tr.WriteBufferSize(), "nothing of it was accepted")
	require.NoError(t, tr.SetWriteBufferLimits(1, 0))
	for range sent + 3 {
		readPacket(t, peer)
	}
	r.awaitCall(t, "ResumeWriting")
	require.Zero(t, tr.WriteBufferSize())
}

// DG-13: an error in the queue is reported before the resume that it makes
// due, and the rest of the queue goes out.
func TestDatagramErrorInQueue(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	tr := unixKind.endpoint(t, r, nil)
	sent := queueBehind(t, tr, to(peer))
	require.NoError(t, tr.SetWriteBufferLimits(50, 0))
	require.NoError(t, tr.SendTo([]byte("last"), to(peer)))
	require.NoError(t, tr.SendTo(make([]byte, 100), &net.UnixAddr{Name: unixPath(t), Net: "unixgram"}))
	r.awaitCall(t, "PauseWriting")
	returned := make(chan struct{})
	require.True(t, tr.CallSoon(func() { close(returned) }))
	await(t, "the return of PauseWriting", returned)
	for range sent + 1 {
		readPacket(t, peer)
	}
	require.ErrorIs(t, r.awaitErrors(t, 1)[0], syscall.ENOENT)
	r.awaitCall(t, "ResumeWriting")
	r.wantCalls(t, "in this order", "ConnectionMade", "PauseWriting", "ErrorReceived", "ResumeWriting")
}

// DG-13: that a datagram behind the one in error went out makes no difference to
// the order, however late the protocol hears of it all.
func TestDatagramErrorBeforeResume(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	r := newDatagramRecorder()
	tr := unixKind.endpoint(t, r, nil)
	sent := queueBehind(t, tr, to(peer))
	require.NoError(t, tr.SetWriteBufferLimits(50, 20))
	require.NoError(t, tr.SendTo(make([]byte, 100), &net.UnixAddr{Name: unixPath(t), Net: "unixgram"}))
	require.NoError(t, tr.SendTo([]byte("x"), to(peer)))
	r.awaitCall(t, "PauseWriting")
	busy, goOn := make(chan struct{}), make(chan struct{})
	require.True(t, tr.CallSoon(func() {
		close(busy)
		<-goOn
	}))
	await(t, "a callback that takes long", busy)
	for range sent + 1 {
		readPacket(t, peer)
	}
	for tr.WriteBufferSize() > 0 { // the writer has yet to count the last one
		runtime.Gosched()
	}
	close(goOn)
	r.awaitCall(t, "ResumeWriting")
	r.wantCalls(t, "in this order", "ConnectionMade", "PauseWriting", "ErrorReceived", "ResumeWriting")
}

// DG-10: an error of SendTo comes right after the callback that it happened in,
// before what was posted earlier, but behind a pause. One that ErrorReceived
// causes waits in line.
func TestDatagramErrorsComeFirst(t *testing.T) {
	for _, k := range []datagramKind{datagramKinds[0], datagramKinds[1]} {
		t.Run(k.name, func(t *testing.T) {
			r := newDatagramRecorder()
			tooLarge := func(tr strand.DatagramTransport) {
				require.NoError(t, tr.SendTo(make([]byte, 65_536), to(tr)))
			}
			r.onMade = func(tr strand.DatagramTransport) {
				require.True(t, tr.CallSoon(func() { r.enter("posted")() }))
				tooLarge(tr)
				tooLarge(tr)
			}
			failed := 0
			r.onError = func(error) {
				if failed++; failed <= 2 {
					tooLarge(r.tr)
				}
			}
			k.endpoint(t, r, nil)
			r.awaitErrors(t, 4)
			r.wantCalls(t, "in this order", "ConnectionMade", "ErrorReceived", "ErrorReceived", "posted", "ErrorReceived", "ErrorReceived")
		})
	}
}

// DG-16, law 3: a pause comes right after the callback that caused it, also
// between two errors.
func TestDatagramPauseBetweenErrors(t *testing.T) {
	needsFullQueue(t)
	peer, nobody := unixKind.socket(t), &net.UnixAddr{Name: unixPath(t), Net: "unixgram"}
	r := newDatagramRecorder()
	r.onMade = func(tr strand.DatagramTransport) {
		require.NoError(t, tr.SetWriteBufferLimits(0, 0))
		for range 2 {
			require.NoError(t, tr.SendTo([]byte("x"), nobody))
		}
	}
	var once sync.Once
	r.onError = func(error) { once.Do(func() { queueBehind(t, r.tr, to(peer)) }) }
	unixKind.endpoint(t, r, nil)
	r.awaitErrors(t, 2)
	r.wantCalls(t, "in this order", "ConnectionMade", "ErrorReceived", "PauseWriting", "ErrorReceived")
}

// DG-10: a protocol that sends again whenever a datagram fails keeps nothing
// else from happening.
func TestDatagramErrorsHoldUpNobody(t *testing.T) {
	needsFullQueue(t)
	k := unixKind
	peer, nobody := k.socket(t), &net.UnixAddr{Name: unixPath(t), Net: "unixgram"}
	r := newDatagramRecorder()
	r.onError = func(error) { r.tr.SendTo([]byte("again"), nobody) }
	tr := k.endpoint(t, r, nil)
	require.NoError(t, tr.SendTo([]byte("x"), nobody))
	writePacket(t, peer, "datagram", to(tr))
	r.awaitPackets(t, 1)
	ran := make(chan struct{})
	require.True(t, tr.CallSoon(func() { close(ran) }))
	await(t, "a posted func", ran)
	tr.Abort()
	require.NoError(t, r.awaitLost(t))
}

// DG-12: an endpoint that cannot work any more ends with the error.
func TestDatagramClosedFromOutside(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		pc := k.socket(t)
		attachPacket(t, pc, k, r, nil)
		require.NoError(t, pc.Close())
		require.ErrorIs(t, r.awaitLost(t), net.ErrClosed)
	})
}

// DG-18: SO_BROADCAST is on without Broadcast, too, which only says what the
// remote address is for.
func TestDatagramBroadcastOption(t *testing.T) {
	for _, k := range datagramKinds[:3] {
		t.Run(k.name, func(t *testing.T) {
			tr := createDatagram(t, k.network, k.address(t), "", newDatagramRecorder(), nil)
			require.Equal(t, 1, broadcastOption(t, tr))
			connected := createDatagram(t, k.network, "", to(tr).String(), newDatagramRecorder(), nil)
			require.Equal(t, 1, broadcastOption(t, connected))
		})
	}
}

// DG-18: with Broadcast the remote address is the default and the only one to
// send to, but the endpoint is not connected.
func TestDatagramBroadcast(t *testing.T) {
	for _, k := range []datagramKind{datagramKinds[0], datagramKinds[1], unixKind} {
		t.Run(k.name, func(t *testing.T) {
			peer, other := k.socket(t), k.socket(t)
			r := newDatagramRecorder()
			local := k.address(t)
			tr := createDatagram(t, k.network, local, to(peer).String(), r, &strand.DatagramOptions{Broadcast: true})
			require.Nil(t, tr.ExtraInfo(strand.ExtraPeername))
			require.Nil(t, tr.RemoteAddr())
			if k.network != "unixgram" {
				require.Equal(t, 1, broadcastOption(t, tr))
			}
			require.NoError(t, tr.SendTo([]byte("1"), nil))
			require.NoError(t, tr.SendTo([]byte("2"), to(peer)))
			var wrong *net.AddrError
			require.ErrorAs(t, tr.SendTo([]byte("3"), to(other)), &wrong)
			for _, want := range []string{"1", "2"} {
				got, _ := readPacket(t, peer)
				require.Equal(t, want, got)
			}
			writePacket(t, other, "from another", to(tr))
			packets, _ := r.awaitPackets(t, 1)
			require.Equal(t, []string{"from another"}, packets)
		})
	}
}

// DG-19: arguments that make no sense are errors, and the caller's socket stays
// open.
func TestDatagramArguments(t *testing.T) {
	ctx := context.Background()
	factory := func() *datagramRecorder { t.Error("the factory was called"); return nil }
	for _, test := range []struct {
		why                    string
		network, local, remote string
		opts                   *strand.DatagramOptions
	}{
		{"neither an address nor a family", "udp", "", "", nil},
		{"a stream network", "tcp", "127.0.0.1:0", "", nil},
		{"an unknown network", "udp5", "127.0.0.1:0", "", nil},
		{"no port", "udp", "127.0.0.1", "", nil},
		{"no remote port", "udp", "", "127.0.0.1", nil},
		{"a bad port", "udp", ":no-such-service", "", nil},
		{"no common family", "udp", "127.0.0.1:0", "[::1]:9", nil},
		{"not the network's family", "udp6", "127.0.0.1:0", "", nil},
		{"an address of another machine", "udp4", "192.0.2.1:9", "", nil},
		{"no such Unix socket", "unixgram", "", "/no/such/socket", nil},
		{"no path of a socket", "unixgram", "", strings.Repeat("x", 200), &strand.DatagramOptions{Broadcast: true}},
		{"no such zone", "udp6", "", "[fe80::1%nowhere]:9", &strand.DatagramOptions{Broadcast: true}},
		{"bad water marks", "udp4", "127.0.0.1:0", "", &strand.DatagramOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: 1, WriteBufferLow: 2}}},
	} {
		_, _, err := strand.CreateDatagramEndpoint(ctx, test.network, test.local, test.remote, factory, test.opts)
		require.Error(t, err, test.why)
	}
	_, _, err := strand.CreateDatagramEndpoint[*datagramRecorder](ctx, "udp4", "127.0.0.1:0", "", nil, nil)
	require.Error(t, err, "no factory")

	k := datagramKinds[0]
	pc := k.socket(t)
	for _, opts := range []*strand.DatagramOptions{
		{Broadcast: true}, {ReusePort: true}, {KeepSocketFile: true}, {Resolver: net.DefaultResolver},
		{Control: func(string, string, syscall.RawConn) error { return nil }},
	} {
		_, _, err := strand.AttachPacket(ctx, pc, factory, opts)
		require.Error(t, err, "options for CreateDatagramEndpoint")
	}
	_, _, err = strand.AttachPacket(ctx, nil, factory, nil)
	require.Error(t, err)
	_, _, err = strand.AttachPacket(ctx, (*net.UDPConn)(nil), factory, nil)
	require.Error(t, err)
	for _, zero := range []net.PacketConn{new(net.UDPConn), new(net.UnixConn), new(net.IPConn)} {
		_, _, err = strand.AttachPacket(ctx, zero, factory, nil)
		require.ErrorIs(t, err, syscall.EINVAL)
	}
	_, stream := unixPair(t)
	_, _, err = strand.AttachPacket(ctx, stream.(net.PacketConn), factory, nil)
	require.Error(t, err, "a stream socket")
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = strand.AttachPacket(over, pc, factory, nil)
	require.ErrorIs(t, err, context.Canceled)
	writePacket(t, pc, "still open", to(pc))
	got, _ := readPacket(t, pc)
	require.Equal(t, "still open", got)
}

// DG-19, EX-08: a nil protocol and a panic of the factory leave an attached
// socket open, and a new one closed.
func TestDatagramFactoryFails(t *testing.T) {
	ctx := context.Background()
	pc := datagramKinds[0].socket(t)
	null := func() *datagramRecorder { return nil }
	panics := func() *datagramRecorder { panic("no") }
	_, _, err := strand.AttachPacket(ctx, pc, null, nil)
	require.Error(t, err)
	require.Panics(t, func() { strand.AttachPacket(ctx, pc, panics, nil) })
	writePacket(t, pc, "still open", to(pc))

	path := unixPath(t)
	_, _, err = strand.CreateDatagramEndpoint(ctx, "unixgram", path, "", null, nil)
	require.Error(t, err)
	require.NoFileExists(t, path)
	require.Panics(t, func() { strand.CreateDatagramEndpoint(ctx, "unixgram", path, "", panics, nil) })
	require.NoFileExists(t, path)
}

// DG-19: a stale Unix socket's file is removed first; the endpoint's own goes
// with it.
func TestDatagramSocketFile(t *testing.T) {
	path := unixPath(t)
	stale, err := net.ListenPacket("unixgram", path)
	require.NoError(t, err)
	require.NoError(t, stale.Close())
	require.FileExists(t, path)

	r := newDatagramRecorder()
	tr := createDatagram(t, "unixgram", path, "", r, nil)
	peer := unixKind.socket(t)
	writePacket(t, peer, "hello", to(tr))
	r.awaitPackets(t, 1)
	r.onLost = func(error) { require.NoFileExists(t, path) }
	require.NoError(t, tr.Close())
	require.NoError(t, r.awaitLost(t))

	_, _, err = strand.CreateDatagramEndpoint(context.Background(), "unixgram", path, unixPath(t), newDatagramRecorder, nil)
	require.Error(t, err, "nobody to connect to")
	require.NoFileExists(t, path, "what was bound for nothing leaves no file")

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, _, err = strand.CreateDatagramEndpoint(context.Background(), "unixgram", path, "", newDatagramRecorder, nil)
	require.Error(t, err, "another file is not removed")
	require.NoError(t, os.Remove(path))

	r = newDatagramRecorder()
	tr = createDatagram(t, "unixgram", path, "", r, &strand.DatagramOptions{KeepSocketFile: true})
	require.NoError(t, tr.Close())
	require.NoError(t, r.awaitLost(t))
	require.FileExists(t, path)
}

// DG-21: extra information.
func TestDatagramExtraInfo(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		tr := k.endpoint(t, newDatagramRecorder(), nil)
		require.Equal(t, tr.LocalAddr(), tr.ExtraInfo(strand.ExtraSockname))
		require.Nil(t, tr.ExtraInfo(strand.ExtraPeername))
		require.Nil(t, tr.ExtraInfo(strand.ExtraPipe))
		connected := k.connectedTo(t, peer, newDatagramRecorder(), nil)
		require.Equal(t, to(peer).String(), connected.ExtraInfo(strand.ExtraPeername).(net.Addr).String())
		if k.wrap != nil {
			return
		}
		raw := tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
		called := false
		require.NoError(t, raw.Control(func(uintptr) { called = true }))
		require.True(t, called)
		require.Error(t, raw.Read(func(uintptr) bool { return true }))
	})
}

// Hosts are resolved, an empty one listens everywhere, an empty address is
// chosen by the system.
func TestCreateDatagramEndpoint(t *testing.T) {
	for _, test := range []struct{ network, local string }{
		{"udp", "localhost:0"}, {"udp", ":0"}, {"udp4", ""}, {"udp4", ":0"}, {"udp6", "[::1]:0"},
	} {
		t.Run(test.network+test.local, func(t *testing.T) {
			server := newDatagramRecorder()
			server.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, server.tr.SendTo(data, from)) }
			here := createDatagram(t, test.network, test.local, "", server, nil)
			addr := to(here).String()
			if test.local == "localhost:0" {
				addr = fmt.Sprintf("localhost:%d", to(here).(*net.UDPAddr).Port)
			}
			client := newDatagramRecorder()
			there := createDatagram(t, test.network, "", addr, client, nil)
			require.NoError(t, there.SendTo([]byte("hello"), nil))
			packets, _ := client.awaitPackets(t, 1)
			require.Equal(t, []string{"hello"}, packets)
		})
	}
}

// A local address beside a remote one, of the family that fits.
func TestDatagramLocalAndRemote(t *testing.T) {
	peer := datagramKinds[0].socket(t)
	tr := createDatagram(t, "udp", "localhost:0", to(peer).String(), newDatagramRecorder(), nil)
	require.NoError(t, tr.SendTo([]byte("x"), nil))
	_, from := readPacket(t, peer)
	require.Equal(t, tr.LocalAddr().String(), from.String())

	peer = unixKind.socket(t)
	path := unixPath(t)
	tr = createDatagram(t, "unixgram", path, to(peer).String(), newDatagramRecorder(), nil)
	require.NoError(t, tr.SendTo([]byte("x"), nil))
	_, from = readPacket(t, peer)
	require.Equal(t, path, from.String())
}

func TestDatagramReusePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SO_REUSEPORT")
	}
	one := createDatagram(t, "udp4", "127.0.0.1:0", "", newDatagramRecorder(), &strand.DatagramOptions{ReusePort: true})
	two := createDatagram(t, "udp4", one.LocalAddr().String(), "", newDatagramRecorder(), &strand.DatagramOptions{ReusePort: true})
	require.Equal(t, one.LocalAddr().String(), two.LocalAddr().String())
	_, _, err := strand.CreateDatagramEndpoint(context.Background(), "udp4", one.LocalAddr().String(), "", newDatagramRecorder, nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestDatagramControl(t *testing.T) {
	var calls atomic.Int32
	opts := &strand.DatagramOptions{Control: func(network, address string, c syscall.RawConn) error {
		calls.Add(1)
		return nil
	}}
	createDatagram(t, "udp4", "127.0.0.1:0", "", newDatagramRecorder(), opts)
	createDatagram(t, "udp4", "", "127.0.0.1:9", newDatagramRecorder(), opts)
	require.EqualValues(t, 2, calls.Load())
	refuses := &strand.DatagramOptions{Control: func(string, string, syscall.RawConn) error { return os.ErrInvalid }}
	_, _, err := strand.CreateDatagramEndpoint(context.Background(), "udp4", "127.0.0.1:0", "", newDatagramRecorder, refuses)
	require.ErrorIs(t, err, os.ErrInvalid)
}

// EX-10: a panic, and runtime.Goexit, of any callback ends the endpoint.
func TestDatagramPanic(t *testing.T) {
	opts := &strand.DatagramOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
	for name, fail := range map[string]func(){"panic": func() { panic("oh") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			eachDatagramKind(t, func(t *testing.T, k datagramKind) {
				peer := k.socket(t)
				r := newDatagramRecorder()
				r.onDatagram = func([]byte, net.Addr) { fail() }
				tr := k.endpoint(t, r, opts)
				writePacket(t, peer, "x", to(tr))
				var panicked *strand.PanicError
				require.ErrorAs(t, r.awaitLost(t), &panicked)
			})
		})
	}
	t.Run("ErrorReceived", func(t *testing.T) {
		r := newDatagramRecorder()
		r.onError = func(error) { panic("oh") }
		tr := datagramKinds[0].endpoint(t, r, opts)
		require.NoError(t, tr.SendTo(make([]byte, 70_000), to(tr)))
		var panicked *strand.PanicError
		require.ErrorAs(t, r.awaitLost(t), &panicked)
	})
	t.Run("ConnectionMade", func(t *testing.T) {
		r := newDatagramRecorder()
		r.onMade = func(strand.DatagramTransport) { panic("oh") }
		_, _, err := strand.CreateDatagramEndpoint(context.Background(), "udp4", "127.0.0.1:0", "", func() *datagramRecorder { return r }, opts)
		var panicked *strand.PanicError
		require.ErrorAs(t, err, &panicked)
		require.ErrorAs(t, r.awaitLost(t), &panicked)
	})
}

// If ctx ends while ConnectionMade runs, the endpoint is aborted.
func TestDatagramContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r := newDatagramRecorder()
	r.onMade = func(tr strand.DatagramTransport) {
		cancel()
		<-tr.Context().Done()
	}
	_, _, err := strand.CreateDatagramEndpoint(ctx, "udp4", "127.0.0.1:0", "", func() *datagramRecorder { return r }, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.awaitLost(t))
}

// The creating call does not wait for a ConnectionMade that goes on behind the
// end of ctx. The socket stays open while it runs (law 8).
func TestDatagramContextIsNotHeldUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, returned := newDatagramRecorder(), make(chan struct{})
	r.onMade = func(tr strand.DatagramTransport) {
		cancel()
		await(t, "the creating call's return", returned)
		require.NoError(t, tr.ExtraInfo(strand.ExtraSocket).(syscall.RawConn).Control(func(uintptr) {}))
	}
	path := unixPath(t)
	_, _, err := strand.CreateDatagramEndpoint(ctx, "unixgram", path, "", func() *datagramRecorder { return r }, nil)
	close(returned)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.awaitLost(t))
	require.NoFileExists(t, path)
}

// SP-05: SetProtocol.
func TestDatagramSetProtocol(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		first, second := newDatagramRecorder(), newDatagramRecorder()
		first.onDatagram = func([]byte, net.Addr) { first.tr.SetProtocol(second) }
		tr := k.endpoint(t, first, nil)
		require.Same(t, first, tr.Protocol())
		second.enter("ConnectionMade")() // it gets none; the recorder wants one
		writePacket(t, peer, "1", to(tr))
		writePacket(t, peer, "2", to(tr))
		packets, _ := second.awaitPackets(t, 1)
		require.Equal(t, []string{"2"}, packets)
		require.Same(t, second, tr.Protocol())
		require.Panics(t, func() { tr.SetProtocol(nil) })
		require.Panics(t, func() { tr.SetProtocol((*datagramRecorder)(nil)) })
		tr.Abort()
		second.awaitCall(t, "ConnectionLost")
		first.wantCalls(t, "the first has had its share", "ConnectionMade", "DatagramReceived 1")
	})
}

// batch makes an endpoint receive several datagrams at once.
func batch(t *testing.T, k datagramKind, r *datagramRecorder, opts *strand.DatagramOptions, data ...string) (strand.DatagramTransport, net.PacketConn) {
	t.Helper()
	peer := k.socket(t)
	r.onMade = func(tr strand.DatagramTransport) { tr.PauseReading() }
	tr := k.endpoint(t, r, opts)
	for _, d := range data {
		writePacket(t, peer, d, to(tr))
	}
	tr.ResumeReading()
	return tr, peer
}

// Close in the middle of a batch: what was answered goes out, nothing more is
// delivered.
func TestDatagramCloseInBatch(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, from net.Addr) {
			require.NoError(t, r.tr.SendTo(data, from))
			if string(data) == "2" {
				r.tr.Close()
			}
		}
		_, peer := batch(t, k, r, nil, "1", "2", "3", "4")
		require.NoError(t, r.awaitLost(t))
		for _, want := range []string{"1", "2"} {
			got, _ := readPacket(t, peer)
			require.Equal(t, want, got)
		}
		r.wantCalls(t, "nothing after Close", "ConnectionMade", "DatagramReceived 1", "DatagramReceived 1", "ConnectionLost nil")
	})
}

// Posted funcs run between the datagrams of a batch, and edges and funcs come
// right after the callback that caused them.
func TestDatagramOrderInBatch(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, _ net.Addr) {
			r.tr.CallSoon(func() { r.enter("posted by " + string(data))() })
		}
		batch(t, k, r, nil, "1", "2")
		r.awaitCall(t, "posted by 2")
		r.wantCalls(t, "in turn", "ConnectionMade", "DatagramReceived 1", "posted by 1", "DatagramReceived 1", "posted by 2")
	})
}

// An answer does not wait for a callback that takes long, although the answers
// to a batch are sent together.
func TestDatagramAnswerBeforeBlockedCallback(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		answered := make(chan struct{})
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, from net.Addr) {
			if string(data) == "2" {
				await(t, "the first answer", answered)
			}
			require.NoError(t, r.tr.SendTo(data, from))
		}
		_, peer := batch(t, k, r, nil, "1", "2", "3")
		for i := range 3 {
			got, _ := readPacket(t, peer)
			require.Equal(t, fmt.Sprint(i+1), got)
			if i == 0 {
				close(answered)
			}
		}
	})
}

// Answers to a batch keep their order with those too large to be collected, and
// more answers than a call takes.
func TestDatagramManyAnswersInBatch(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		const each = 30
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, from net.Addr) {
			for i := range each {
				size := 8
				if i%7 == 3 {
					size = 5000
				}
				p := make([]byte, size)
				copy(p, fmt.Sprintf("%s.%d ", data, i))
				require.NoError(t, r.tr.SendTo(p, from))
				clear(p)
			}
		}
		_, peer := batch(t, k, r, nil, "a", "b", "c")
		for _, d := range []string{"a", "b", "c"} {
			for i := range each {
				got, _ := readPacket(t, peer)
				require.True(t, strings.HasPrefix(got, fmt.Sprintf("%s.%d ", d, i)), "%.10q is not %s.%d", got, d, i)
			}
		}
	})
}

// DG-10: an error among the answers to a batch is reported, and the others go
// out.
func TestDatagramErrorInBatch(t *testing.T) {
	peers := map[string]net.Addr{}
	r := newDatagramRecorder()
	gone := unixKind.closedAddr(t)
	r.onDatagram = func(data []byte, from net.Addr) {
		if string(data) == "2" {
			from = gone
		}
		require.NoError(t, r.tr.SendTo(data, from))
	}
	_, peer := batch(t, unixKind, r, nil, "1", "2", "3")
	for _, want := range []string{"1", "3"} {
		got, from := readPacket(t, peer)
		require.Equal(t, want, got)
		peers[from.String()] = from
	}
	require.Error(t, r.awaitErrors(t, 1)[0])
	require.Len(t, peers, 1)
}

// Answers to a batch that the kernel does not take are queued, in order.
func TestDatagramFullQueueInBatch(t *testing.T) {
	needsFullQueue(t)
	peer := unixKind.socket(t)
	var sent atomic.Int32
	r := newDatagramRecorder()
	r.onDatagram = func([]byte, net.Addr) {
		for range 20_000 {
			require.NoError(t, r.tr.SendTo(fmt.Appendf(nil, "%d", sent.Add(1)-1), to(peer)))
			if r.tr.WriteBufferSize() > 0 {
				return
			}
		}
	}
	tr, _ := batch(t, unixKind, r, nil, "1", "2", "3")
	r.awaitPackets(t, 3)
	closed := make(chan struct{})
	require.True(t, tr.CallSoon(func() { // behind the last callback, which may still be sending
		tr.Close()
		close(closed)
	}))
	await(t, "Close", closed)
	for i := 0; i < int(sent.Load()); i++ {
		got, _ := readPacket(t, peer)
		require.Equal(t, fmt.Sprint(i), got)
	}
	require.NoError(t, r.awaitLost(t))
}

// CL-01: Close waits for the queue for CloseTimeout, then the endpoint ends
// with a TimeoutError. WriteTimeout is the same without a Close.
func TestDatagramTimeouts(t *testing.T) {
	needsFullQueue(t)
	for _, test := range []struct {
		op    string
		opts  strand.TransportOptions
		close bool
	}{
		{"close", strand.TransportOptions{CloseTimeout: time.Millisecond}, true},
		{"write", strand.TransportOptions{WriteTimeout: time.Millisecond}, false},
	} {
		t.Run(test.op, func(t *testing.T) {
			peer := unixKind.socket(t)
			r := newDatagramRecorder()
			tr := unixKind.connectedTo(t, peer, r, &strand.DatagramOptions{TransportOptions: test.opts})
			if test.close {
				queueBehind(t, tr, nil)
				require.NoError(t, tr.Close())
			}
			for !tr.IsClosing() { // the limit may end it as soon as something is queued
				if err := tr.SendTo([]byte("x"), nil); err != nil {
					require.ErrorIs(t, err, net.ErrClosed)
				}
			}
			var timeout *strand.TimeoutError
			require.ErrorAs(t, r.awaitLost(t), &timeout)
			require.Equal(t, test.op, timeout.Op)
		})
	}
	t.Run("idle", func(t *testing.T) {
		opts := &strand.DatagramOptions{TransportOptions: strand.TransportOptions{IdleTimeout: time.Millisecond}}
		r := idleDatagrams(t, func() net.PacketConn { return datagramKinds[0].socket(t) }, opts)
		require.ErrorIs(t, r.awaitLost(t), os.ErrDeadlineExceeded)
	})
}

// idleDatagrams makes an endpoint with a short IdleTimeout. That counts from the
// beginning, and on a slow machine may be over before ConnectionMade: then it is
// what the creating call returns, and another endpoint is made.
func idleDatagrams(t testing.TB, conn func() net.PacketConn, opts *strand.DatagramOptions) *datagramRecorder {
	t.Helper()
	for {
		tr, r, err := strand.AttachPacket(context.Background(), conn(), newDatagramRecorder, opts)
		if err == nil {
			endWith(t, tr)
			return r
		}
		requireTimeout(t, err, "idle", opts.IdleTimeout)
	}
}

// A protocol that keeps its slice is found out in Debug.
func TestDatagramDebug(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		var log logBuffer
		opts := &strand.DatagramOptions{TransportOptions: logTo(&log)}
		opts.Debug = true
		var kept []byte
		r := newDatagramRecorder()
		r.onDatagram = func(data []byte, _ net.Addr) {
			kept = data
			r.tr.CallSoon(func() {
				require.True(t, bytes.Equal(kept, []byte{0xDB, 0xDB}))
				r.tr.Close()
			})
		}
		peer := k.socket(t)
		tr := k.endpoint(t, r, opts)
		writePacket(t, peer, "ab", to(tr))
		require.NoError(t, r.awaitLost(t))
	})
}

// brokenConn is a net.PacketConn whose ReadFrom fails a few times.
type brokenConn struct {
	net.PacketConn
	fails atomic.Int32
}

func (b *brokenConn) ReadFrom(p []byte) (int, net.Addr, error) {
	if b.fails.Add(-1) >= 0 {
		return 0, nil, errors.New("not now")
	}
	return b.PacketConn.ReadFrom(p)
}

// DG-10: errors of a foreign conn are reported, and receiving goes on.
func TestDatagramForeignErrors(t *testing.T) {
	k := datagramKinds[0]
	peer := k.socket(t)
	pc := &brokenConn{PacketConn: k.socket(t)}
	pc.fails.Store(20)
	r := newDatagramRecorder()
	tr := attachPacket(t, pc, k, r, nil)
	writePacket(t, peer, "at last", to(tr))
	packets, _ := r.awaitPackets(t, 1)
	require.Equal(t, []string{"at last"}, packets)
	require.Len(t, r.awaitErrors(t, 20), 20)
}

// echoDatagrams answers every datagram.
type echoDatagrams struct {
	strand.NopDatagramProtocol
	t strand.DatagramTransport
}

func newEchoDatagrams() *echoDatagrams { return new(echoDatagrams) }

func (e *echoDatagrams) ConnectionMade(t strand.DatagramTransport)   { e.t = t }
func (e *echoDatagrams) DatagramReceived(data []byte, from net.Addr) { e.t.SendTo(data, from) }

// counting keeps datagrams on their way to an echo and back, and notes how
// often each comes back.
type counting struct {
	strand.NopDatagramProtocol
	total  int
	t      strand.DatagramTransport
	next   int
	seen   []byte
	back   int
	failed string
}

func (c *counting) ConnectionMade(t strand.DatagramTransport) { c.t = t }

func (c *counting) DatagramReceived(data []byte, _ net.Addr) {
	n := binary.BigEndian.Uint32(data)
	if c.seen[n]++; c.seen[n] != 1 || len(data) != 4+int(n%60) {
		c.failed = fmt.Sprintf("datagram %d came back %d times, with %d bytes", n, c.seen[n], len(data))
		c.t.Abort()
		return
	}
	if c.back++; c.back == c.total {
		c.t.Close()
		return
	}
	c.send()
}

func (c *counting) send() {
	if c.next < c.total {
		p := make([]byte, 4+c.next%60)
		binary.BigEndian.PutUint32(p, uint32(c.next))
		c.t.SendTo(p, nil)
		c.next++
	}
}

// 100,000 datagrams, many at a time from several peers, each delivered once.
func TestDatagramLoad(t *testing.T) {
	total := 100_000
	if testing.Short() {
		total = 5_000
	}
	for i, k := range []datagramKind{datagramKinds[0], datagramKinds[1], unixKind} {
		if i == 1 {
			total /= 10 // the others are here for what is different about them
		}
		t.Run(k.name, func(t *testing.T) {
			server, _, err := strand.AttachPacket(context.Background(), k.socket(t), newEchoDatagrams, nil)
			require.NoError(t, err)
			endWith(t, server)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { countDatagrams(t, k, server.LocalAddr(), total/4) })
			}
			wg.Wait()
		})
	}
}

// countDatagrams sends total datagrams to an echo, a few at a time so that
// none is lost in a full buffer.
func countDatagrams(t *testing.T, k datagramKind, server net.Addr, total int) {
	c := &counting{total: total, seen: make([]byte, total)}
	local := ""
	if k.network == "unixgram" {
		local = k.address(t)
	}
	tr, _, err := strand.CreateDatagramEndpoint(context.Background(), k.network, local, server.String(), func() *counting { return c }, nil)
	if err != nil {
		t.Error(err)
		return
	}
	tr.CallSoon(func() {
		for range 8 {
			c.send()
		}
	})
	select {
	case <-tr.Done():
	case <-time.After(5 * patience):
		tr.Abort()
		<-tr.Done()
		t.Errorf("%d of %d datagrams came back", c.back, total)
	}
	if c.failed != "" {
		t.Error(c.failed)
	}
}

// ascending is a DatagramProtocol that wants numbers in order, perhaps with gaps,
// each once.
type ascending struct {
	strand.NopDatagramProtocol
	last   uint32        // number received
	count  int           // of numbers
	wrong  string        // what was not in order
	ended  bool          // there was an empty datagram
	finish chan struct{} // closed then
}

func (n *ascending) DatagramReceived(data []byte, _ net.Addr) {
	if len(data) == 0 {
		if !n.ended {
			n.ended = true
			close(n.finish)
		}
		return
	}
	got := binary.BigEndian.Uint32(data)
	if (got <= n.last || len(data) != 4+int(got%60)) && n.wrong == "" {
		n.wrong = fmt.Sprintf("%d with %d bytes behind %d", got, len(data), n.last)
	}
	n.last = got
	n.count++
}

// sender sends numbers as fast as it is allowed to.
type sender struct {
	strand.NopDatagramProtocol
	t           strand.DatagramTransport
	next, total uint32
}

func (s *sender) ConnectionMade(t strand.DatagramTransport) {
	s.t = t
	s.send()
}

func (s *sender) ResumeWriting() { s.send() }

// send sends in turn with everything else, some numbers at a time.
func (s *sender) send() {
	var p [64]byte
	for range 1000 {
		if s.next == s.total || !s.t.Writable() {
			return
		}
		s.next++
		binary.BigEndian.PutUint32(p[:], s.next)
		s.t.SendTo(p[:4+s.next%60], nil)
	}
	s.t.CallSoon(s.send)
}

// DG-01, DG-09: 100,000 datagrams as fast as they can be sent. The kernel may lose
// some of UDP's, none of a Unix socket's; whatever it does not lose is delivered
// once and in order.
func TestDatagramFlood(t *testing.T) {
	total := uint32(100_000)
	if testing.Short() {
		total = 5_000
	}
	for i, k := range []datagramKind{datagramKinds[0], datagramKinds[1], unixKind, datagramKinds[4]} {
		if i == 1 {
			total /= 5 // the others are here for what is different about them
		}
		t.Run(k.name, func(t *testing.T) {
			if k.network == "unixgram" {
				needsFullQueue(t)
			}
			pc := k.socket(t)
			if k.wrap != nil {
				pc = k.wrap(pc)
			}
			n := &ascending{finish: make(chan struct{})}
			receiver, _, err := strand.AttachPacket(context.Background(), pc, func() *ascending { return n }, nil)
			require.NoError(t, err)
			endWith(t, receiver)
			s := &sender{total: total}
			tr, _, err := strand.CreateDatagramEndpoint(context.Background(), k.network, "", to(receiver).String(), func() *sender { return s }, nil)
			require.NoError(t, err)
			endWith(t, tr)
			awaitFlood(t, tr, s, n.finish)
			receiver.Abort()
			await(t, "the receiver's end", receiver.Done())
			require.Empty(t, n.wrong)
			require.Positive(t, n.count)
			if k.network == "unixgram" {
				require.EqualValues(t, total, n.count)
			}
			t.Logf("%d of %d arrived", n.count, total)
		})
	}
}

// awaitFlood waits until s has sent all, and then sends the end until it arrives.
func awaitFlood(t *testing.T, tr strand.DatagramTransport, s *sender, finish <-chan struct{}) {
	var end func()
	end = func() {
		if s.next == s.total {
			tr.SendTo(nil, nil)
		}
		tr.CallLater(10*time.Millisecond, end)
	}
	tr.CallSoon(end)
	select {
	case <-finish:
	case <-time.After(5 * patience):
		t.Error("the end never came")
	}
}

// Senders on several goroutines, beside the echo of a batch, lose and mix
// nothing.
func TestDatagramConcurrentSenders(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		peer := k.socket(t)
		tr := k.endpoint(t, newDatagramRecorder(), nil)
		const senders, each = 4, 50
		for s := range senders {
			go func() {
				for i := range each {
					tr.SendTo(fmt.Appendf(nil, "%d %d", s, i), to(peer))
				}
			}()
		}
		var next [senders]int
		for range senders * each {
			got, _ := readPacket(t, peer)
			var s, i int
			_, err := fmt.Sscanf(got, "%d %d", &s, &i)
			require.NoError(t, err)
			require.Equal(t, next[s], i, "each sender's datagrams come in order")
			next[s]++
		}
	})
}

// Close and Abort from everywhere, while datagrams come and go.
func TestDatagramEndUnderLoad(t *testing.T) {
	eachDatagramKind(t, func(t *testing.T, k datagramKind) {
		for i := range 20 {
			peer := k.socket(t)
			r := newDatagramRecorder()
			r.onDatagram = func(data []byte, from net.Addr) { r.tr.SendTo(data, from) }
			tr := k.endpoint(t, r, nil)
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for tr.SendTo([]byte("x"), to(tr)) == nil {
				}
			}()
			writePacket(t, peer, "x", to(tr))
			r.awaitPackets(t, 1)
			if i%2 == 0 && k.network != "unixgram" { // its queue is full of what it sent to itself
				tr.Close()
			} else {
				tr.Abort()
			}
			await(t, "the sender's end", stop)
			require.NoError(t, r.awaitLost(t))
			r.mu.Lock()
			require.Empty(t, r.broken)
			r.mu.Unlock()
		}
	})
}
