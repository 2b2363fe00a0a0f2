package strand_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// create is CreateConnection of a new recorder, aborted with the test.
func create(t testing.TB, network, address string, opts *strand.ConnectOptions) (strand.Transport, *recorder, error) {
	t.Helper()
	tr, r, err := strand.CreateConnection(context.Background(), network, address, newRecorder, opts)
	if err == nil {
		t.Cleanup(func() {
			tr.Abort()
			await(t, "the end after Abort", tr.Done())
		})
	}
	return tr, r, err
}

// nobody is an address at which nobody listens, and nobody else can.
func nobody(t testing.TB) string {
	t.Helper()
	skipWithoutDelayStart(t)
	return serveTCP(t, &strand.ServerOptions{DelayStart: true}, nil).addr().String()
}

// The pair comes back typed, and ConnectionMade has returned by then.
func TestCreateConnection(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "tcp4": "127.0.0.1:0", "unix": filepath.Join(shortTempDir(t), "s")} {
		t.Run(network, func(t *testing.T) {
			s := serve(t, network, address, nil, nil)
			tr, r, err := create(t, network, s.addr().String(), nil)
			require.NoError(t, err)
			require.Equal(t, []string{"ConnectionMade"}, r.trace())
			require.Same(t, tr, r.transport())
			require.Equal(t, s.addr().String(), tr.RemoteAddr().String())
			theirs := await(t, "the server's protocol", s.made)
			mustWrite(t, tr, []byte("hello"))
			theirs.awaitData(t, 5)
			require.NoError(t, tr.Close())
			require.NoError(t, r.awaitLost(t))
			require.NoError(t, theirs.awaitLost(t))
		})
	}
}

// fakeDNS is a resolver that knows the addresses of any name.
func fakeDNS(ips ...string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go answerDNS(theirs, ips)
		return ours, nil
	}}
}

// answerDNS answers questions as DNS over TCP does: a length, then the message.
func answerDNS(conn net.Conn, ips []string) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		answer := dnsAnswer(question, ips)
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}

func dnsAnswer(question []byte, ips []string) []byte {
	const typeA, typeAAAA, header = 1, 28, 12
	end := header + bytes.IndexByte(question[header:], 0) + 5 // the name, type and class
	asked := binary.BigEndian.Uint16(question[end-4:])
	var records []byte
	count := 0
	for _, ip := range ips {
		raw, kind := netip.MustParseAddr(ip).AsSlice(), uint16(typeAAAA)
		if len(raw) == 4 {
			kind = typeA
		}
		if kind == asked {
			count++
			records = append(records, 0xC0, header) // the question's name
			records = binary.BigEndian.AppendUint16(records, kind)
			records = append(records, 0, 1, 0, 0, 0, 60) // class, time to live
			records = binary.BigEndian.AppendUint16(records, uint16(len(raw)))
			records = append(records, raw...)
		}
	}
	head := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, byte(count)}, 0, 0, 0, 0)
	return append(append(head, question[header:end]...), records...)
}

// port is a listener's port as text.
func port(a net.Addr) string { return strconv.Itoa(a.(*net.TCPAddr).Port) }

// CN-01: the addresses of a name are tried in order until one answers, and what
// failed is closed.
func TestConnectTriesEveryAddress(t *testing.T) {
	skipWithoutLoopbacks(t)
	s := serveTCP(t, nil, nil)
	opts := &strand.ConnectOptions{HappyEyeballsDelay: -1, Resolver: fakeDNS("127.0.0.2", "127.0.0.3", ownHost)}
	before := openDescriptors(t)
	tr, r, err := create(t, "tcp", "server.test:"+port(s.addr()), opts)
	require.NoError(t, err)
	require.Equal(t, ownHost, tr.RemoteAddr().(*net.TCPAddr).IP.String())
	theirs := await(t, "the server's protocol", s.made)
	tr.Close()
	require.NoError(t, r.awaitLost(t))
	require.NoError(t, theirs.awaitLost(t))
	requireDescriptors(t, before)
}

// CN-04: with Happy Eyeballs, which is the default, the same; here the first
// address fails at once, so that nobody waits for the delay.
func TestConnectHappyEyeballs(t *testing.T) {
	skipWithoutLoopbacks(t)
	s := serveTCP(t, nil, nil)
	opts := &strand.ConnectOptions{HappyEyeballsDelay: time.Hour, Resolver: fakeDNS("127.0.0.2", ownHost)}
	tr, _, err := create(t, "tcp", "server.test:"+port(s.addr()), opts)
	require.NoError(t, err)
	require.Equal(t, ownHost, tr.RemoteAddr().(*net.TCPAddr).IP.String())
}

// CN-02, CN-03: if all fail every error is there, each with its address.
func TestConnectAllFail(t *testing.T) {
	skipWithoutLoopbacks(t)
	_, p, err := net.SplitHostPort(nobody(t))
	require.NoError(t, err)
	before := openDescriptors(t)
	_, _, err = create(t, "tcp", "server.test:"+p, &strand.ConnectOptions{Resolver: fakeDNS("127.0.0.2", ownHost)})
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.ErrorContains(t, err, ownHost+":"+p)
	require.ErrorContains(t, err, "127.0.0.2:"+p)
	requireDescriptors(t, before)
}

// CN-02, CN-03: a single failure is the system's error with the address.
func TestConnectRefused(t *testing.T) {
	for network, address := range map[string]string{"tcp": nobody(t), "unix": filepath.Join(shortTempDir(t), "none")} {
		_, _, err := create(t, network, address, nil)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.ErrorContains(t, err, address)
		var errno syscall.Errno
		require.ErrorAs(t, err, &errno)
		require.Contains(t, []syscall.Errno{syscall.ECONNREFUSED, syscall.ENOENT}, errno)
	}
}

// CN-06: the connection comes from the local address that was asked for.
func TestLocalAddr(t *testing.T) {
	skipWithoutLoopbacks(t)
	s := serveTCP(t, nil, nil)
	tr, _, err := create(t, "tcp", s.addr().String(), &strand.ConnectOptions{LocalAddr: "127.0.0.2:0"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.2", tr.LocalAddr().(*net.TCPAddr).IP.String())
}

// CN-06: a local address in use fails with its errno and its name.
func TestLocalAddrInUse(t *testing.T) {
	s, taken := serveTCP(t, nil, nil), serveTCP(t, nil, nil)
	before := openDescriptors(t)
	_, _, err := create(t, "tcp", s.addr().String(), &strand.ConnectOptions{LocalAddr: taken.addr().String()})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, taken.addr().String())
	requireDescriptors(t, before)
}

// CN-06: local addresses of the other family are skipped; only such is an error.
func TestLocalAddrFamily(t *testing.T) {
	skipWithoutLoopbacks(t)
	s := serveTCP(t, nil, nil)
	tr, _, err := create(t, "tcp", s.addr().String(), &strand.ConnectOptions{LocalAddr: "me.test:0", Resolver: fakeDNS("::1", "127.0.0.2")})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.2", tr.LocalAddr().(*net.TCPAddr).IP.String())

	_, _, err = create(t, "tcp", s.addr().String(), &strand.ConnectOptions{LocalAddr: "[::1]:0"})
	require.ErrorContains(t, err, "no local address")
	require.ErrorContains(t, err, s.addr().String())
}

// CN-08: an empty host is the local one, and an empty port is 0.
func TestConnectDefaults(t *testing.T) {
	s := serve(t, "tcp", "localhost:0", nil, nil)
	tr, _, err := create(t, "tcp", ":"+port(s.addr()), nil)
	require.NoError(t, err)
	require.True(t, tr.RemoteAddr().(*net.TCPAddr).IP.IsLoopback())

	_, _, err = create(t, "tcp", "127.0.0.1:", nil)
	require.ErrorContains(t, err, "127.0.0.1:0")
}

// CN-08: a port may be the name of a service.
func TestConnectServiceName(t *testing.T) {
	tr, _, err := create(t, "tcp", "127.0.0.1:http", nil)
	if err == nil { // somebody does listen there
		require.Equal(t, "80", port(tr.RemoteAddr()))
	} else {
		require.ErrorContains(t, err, "127.0.0.1:80")
	}
	_, _, err = create(t, "tcp", "127.0.0.1:no-such-service", nil)
	require.ErrorContains(t, err, "no-such-service")
}

// CN-08: a literal address needs no resolver.
func TestConnectWithoutResolver(t *testing.T) {
	broken := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("there is no resolver")
	}}
	s := serveTCP(t, nil, nil)
	_, _, err := create(t, "tcp", s.addr().String(), &strand.ConnectOptions{Resolver: broken})
	require.NoError(t, err)
	_, _, err = create(t, "tcp", "server.test:80", &strand.ConnectOptions{Resolver: broken})
	require.ErrorContains(t, err, "there is no resolver")
}

// CN-08: a name without addresses, or without any of the network's family.
func TestConnectNameWithoutAddress(t *testing.T) {
	for network, resolver := range map[string]*net.Resolver{"tcp": fakeDNS(), "tcp4": fakeDNS("::1"), "tcp6": fakeDNS("127.0.0.1")} {
		_, _, err := create(t, network, "server.test:80", &strand.ConnectOptions{Resolver: resolver})
		var dns *net.DNSError
		require.ErrorAs(t, err, &dns, network)
		require.True(t, dns.IsNotFound)
		require.ErrorContains(t, err, "server.test")
	}
}

// CN-09: a context that has ended connects nothing.
func TestConnectCancelledBefore(t *testing.T) {
	s := serveTCP(t, nil, nil)
	before := openDescriptors(t)
	_, _, err := strand.CreateConnection(over(), "tcp", s.addr().String(), newRecorder, nil)
	require.ErrorIs(t, err, context.Canceled)
	requireDescriptors(t, before)
	ours, peer := tcpPair(t)
	_, _, err = strand.Attach(over(), ours, newRecorder, nil)
	require.ErrorIs(t, err, context.Canceled)
	requireStillTheirs(t, ours, peer)
}

// requireStillTheirs checks that a conn that was refused is open and untouched.
func requireStillTheirs(t testing.TB, ours, peer net.Conn) {
	t.Helper()
	go peer.Write([]byte("x")) // net.Pipe needs somebody who reads
	require.Equal(t, "x", string(readN(t, ours, 1)))
}

// CN-09: cancelling ends the look-up of the name.
func TestConnectCancelledDuringLookup(t *testing.T) {
	asked := make(chan struct{})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case asked <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		_, _, err := strand.CreateConnection(ctx, "tcp", "server.test:80", newRecorder, &strand.ConnectOptions{Resolver: resolver})
		result <- err
	}()
	await(t, "a question", asked)
	cancel()
	require.Error(t, await(t, "an answer", result))
}

// CN-09: when the context ends during ConnectionMade the creating call returns
// its cause at once, and the connection is aborted.
func TestConnectCancelledDuringConnectionMade(t *testing.T) {
	s := serveTCP(t, nil, nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	release := make(chan struct{})
	r := newRecorder()
	r.onMade = func(tr strand.Transport) {
		cancel(io.ErrNoProgress)
		<-tr.Context().Done() // Abort's doing
		<-release
	}
	tr, _, err := strand.CreateConnection(ctx, "tcp", s.addr().String(), func() *recorder { return r }, nil)
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.Nil(t, tr)
	close(release)
	require.NoError(t, r.awaitLost(t))
	require.NoError(t, await(t, "the server's protocol", s.made).awaitLost(t))
}

// If ConnectionMade panics, the creating call says so, and the connection ends.
func TestConnectionMadePanics(t *testing.T) {
	s := serveTCP(t, nil, nil)
	r := newRecorder()
	r.onMade = func(strand.Transport) { panic("not today") }
	opts := &strand.ConnectOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
	_, _, err := strand.CreateConnection(context.Background(), "tcp", s.addr().String(), func() *recorder { return r }, opts)
	var panicked *strand.PanicError
	require.ErrorAs(t, err, &panicked)
	require.Equal(t, "not today", panicked.Value)
	require.Equal(t, err, r.awaitLost(t))
	require.NoError(t, await(t, "the server's protocol", s.made).awaitLost(t))
}

// CN-07, CN-10: a conn that is given is taken over: its deadlines are cleared,
// and it is closed with the transport.
func TestAttachTakesOver(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		require.NoError(t, ours.SetDeadline(time.Unix(1, 0)))
		r := newRecorder()
		tr := attach(t, ours, r, nil)
		_, err := peer.Write([]byte("hello"))
		require.NoError(t, err)
		r.awaitData(t, 5)
		mustWrite(t, tr, []byte("you"))
		require.Equal(t, "you", string(readN(t, peer, 3)))
		tr.Close()
		require.NoError(t, r.awaitLost(t))
		_, err = ours.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// CN-07, SV-20: what is no stream is refused and stays open.
func TestAttachNoStream(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer udp.Close()
	_, _, err = strand.Attach(context.Background(), udp, newRecorder, nil)
	require.ErrorContains(t, err, "not a stream")
	require.NoError(t, udp.SetDeadline(time.Time{}), "still open")
}
