package dgram

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueue(t *testing.T) {
	var q Queue[string]
	p := []byte("one")
	q.Push(p, "a")
	p[0] = 'x'
	q.Push(nil, "b")
	require.Equal(t, Packet[string]{[]byte("one"), "a"}, *q.Head(), "the copy is private")
	q.Pop()
	require.Equal(t, 1, q.Len())
	require.Empty(t, q.Head().Data)
	q.Pop()
	require.Equal(t, Queue[string]{}, q, "an empty queue holds no memory")
}

func TestQueueKeepsOrderWhileItMoves(t *testing.T) {
	var q Queue[string]
	next := byte(0)
	for i := range 200 {
		q.Push([]byte{byte(i)}, "")
		if i%3 > 0 {
			require.Equal(t, next, q.Head().Data[0])
			q.Pop()
			next++
		}
	}
	for ; q.Len() > 0; next++ {
		require.Equal(t, next, q.Head().Data[0])
		q.Pop()
	}
	require.EqualValues(t, 200, next)
}

// A queue that stays long does not move for every datagram.
func TestQueueMovesRarely(t *testing.T) {
	var q Queue[string]
	const long, rounds = 1000, 10_000
	for range long {
		q.Push(nil, "")
	}
	moved := 0
	for range rounds {
		q.Pop()
		head := q.head
		q.Push(nil, "")
		if q.head < head {
			moved += q.Len()
		}
	}
	require.Positive(t, moved, "nor does it grow for ever")
	require.Less(t, moved, 3*rounds)
	require.Less(t, cap(q.packets), 10*long)
}

// A zone is looked up when it is new, and when it was remembered for long.
func TestZones(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) == 0 {
		t.Skip("no interfaces here")
	}
	index, name := uint32(interfaces[0].Index), interfaces[0].Name
	require.Equal(t, name, zoneOf(index))
	zones.index++ // as if the interface had come back since
	scope, ok := scopeOf(name)
	require.True(t, ok)
	require.Equal(t, index+1, scope, "remembered")
	zones.until = time.Now().Add(-1)
	scope, ok = scopeOf(name)
	require.True(t, ok)
	require.Equal(t, index, scope, "looked up")
	require.Equal(t, name, zoneOf(index))
	require.Equal(t, "4294967295", zoneOf(1<<32-1))
	_, ok = scopeOf("no-such-zone")
	require.False(t, ok)
}

func TestIPPort(t *testing.T) {
	for _, test := range []struct {
		addr string
		is4  bool
	}{{"127.0.0.1:80", true}, {"[::1]:65535", false}, {"[fe80::1%7]:1", false}} {
		a, ok := FromAddrPort(netip.MustParseAddrPort(test.addr))
		require.True(t, ok)
		require.Equal(t, test.is4, a.Is4())
		require.Equal(t, test.addr, a.UDPAddr().String())
	}
	mapped, ok := FromAddrPort(netip.MustParseAddrPort("[::ffff:10.0.0.1]:5"))
	require.True(t, ok)
	require.True(t, mapped.Is4(), "a mapped address is an IPv4 address")
	_, ok = FromAddrPort(netip.MustParseAddrPort("[fe80::1%no-such-zone]:1"))
	require.False(t, ok)
	unspecified, _ := FromAddrPort(netip.AddrPort{})
	require.Equal(t, [16]byte{}, unspecified.inet6())
}

// pair returns two sockets of a family with their descriptors' addresses.
func listen(t *testing.T, network, address string) net.PacketConn {
	pc, err := net.ListenPacket(network, address)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

func TestBatchAndOutbox(t *testing.T) {
	for _, test := range []struct {
		network, address string
		family           Family
	}{{"udp4", "127.0.0.1:0", Inet4}, {"udp6", "[::1]:0", Inet6}, {"udp", ":0", Inet6}} {
		t.Run(test.network, func(t *testing.T) {
			from, to := listen(t, test.network, test.address), listen(t, test.network, test.address)
			raw, f := Of(from)
			require.Equal(t, test.family, f)
			dest, _ := FromAddrPort(to.LocalAddr().(*net.UDPAddr).AddrPort())
			o := GetOutbox(f)
			defer PutOutbox(o)
			for i := range Max {
				require.True(t, o.Add(bytes.Repeat([]byte{byte(i)}, i), &Addr{IPPort: dest}))
			}
			require.False(t, o.Add(nil, &Addr{IPPort: dest}), "it is full")
			var n, size int
			var err error
			require.NoError(t, raw.Write(func(fd uintptr) bool {
				n, size, err = o.Send(fd)
				return true
			}))
			require.NoError(t, err)
			require.Equal(t, Max, n)
			require.Equal(t, Max*(Max-1)/2, size)
			require.Zero(t, o.Len())

			raw, f = Of(to)
			b := GetBatch(f)
			defer PutBatch(b)
			got := 0
			require.NoError(t, raw.Read(func(fd uintptr) bool {
				n, more, err := b.Recv(fd)
				if err == syscall.EAGAIN {
					return false
				}
				require.NoError(t, err)
				for i := range n {
					p, cut := b.Data(i)
					require.False(t, cut)
					require.Equal(t, bytes.Repeat([]byte{byte(got)}, got), p)
					source := b.From(i)
					require.Equal(t, from.LocalAddr().(*net.UDPAddr).Port, source.UDPAddr().Port)
					require.True(t, source.UDPAddr().IP.IsLoopback())
					got++
				}
				return got == Max || !more
			}))
			require.Equal(t, Max, got)
		})
	}
}
