package strand_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// linkLocal is a link-local address of this machine, which means something only
// together with its zone.
func linkLocal(t testing.TB) string {
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		require.NoError(t, err)
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && i.Flags&net.FlagUp != 0 {
				return p.Addr().WithZone(i.Name).String()
			}
		}
	}
	t.Skip("no link-local address here")
	return ""
}

// CN-01, SV-15: an address keeps its zone on the way to the socket, on both sides.
func TestLinkLocalStream(t *testing.T) {
	addr := net.JoinHostPort(linkLocal(t), "0")
	for _, opts := range []*strand.ServerOptions{nil, {DelayStart: true}} {
		s, err := strand.CreateServer(context.Background(), "tcp", addr, newRecorder, opts)
		require.NoError(t, err)
		require.NoError(t, s.StartServing())
		tr, _, err := create(t, "tcp6", s.Addrs()[0].String(), &strand.ConnectOptions{LocalAddr: addr})
		require.NoError(t, err)
		tr.Abort()
		s.Close()
		s.AbortClients()
		require.NoError(t, s.Wait(context.Background()))
	}
	_, err := strand.CreateServer(context.Background(), "tcp", "[fe80::1%nowhere]:0", newRecorder, &strand.ServerOptions{DelayStart: true})
	require.Error(t, err)
	_, _, err = create(t, "tcp4", addr, nil)
	require.ErrorContains(t, err, "no suitable address")
}

// DG-01: the same for datagrams.
func TestLinkLocalDatagram(t *testing.T) {
	addr := net.JoinHostPort(linkLocal(t), "0")
	server := newDatagramRecorder()
	server.onDatagram = func(data []byte, from net.Addr) { require.NoError(t, server.tr.SendTo(data, from)) }
	there := createDatagram(t, "udp", addr, "", server, nil).LocalAddr()
	for _, broadcast := range []bool{false, true} {
		client := newDatagramRecorder()
		tr := createDatagram(t, "udp", addr, there.String(), client, &strand.DatagramOptions{Broadcast: broadcast})
		require.NoError(t, tr.SendTo([]byte("1"), nil))
		require.NoError(t, tr.SendTo([]byte("2"), there))
		packets, senders := client.awaitPackets(t, 2)
		require.Equal(t, []string{"1", "2"}, packets)
		require.Equal(t, there.String(), senders[0].String())
	}
}
