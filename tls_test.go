package strand_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
)

// testCert is the certificate of strandtest, and a pool that trusts it.
func testCert() (tls.Certificate, *x509.CertPool) {
	return serverTLS().Config.Certificates[0], clientTLS().Config.RootCAs
}

// serverTLS and clientTLS are the options of the two ends.
func serverTLS() *strand.TLSOptions {
	_, server := strandtest.TLSOptions()
	return server
}

func clientTLS() *strand.TLSOptions {
	client, _ := strandtest.TLSOptions()
	return client
}

// clientTLSConn is crypto/tls itself as the peer of a server of ours.
func clientTLSConn(conn net.Conn) *tls.Conn {
	o := clientTLS()
	o.Config.ServerName = o.ServerName
	return tls.Client(conn, o.Config)
}

// serverTLSConn is crypto/tls itself as the peer of a client of ours.
func serverTLSConn(conn net.Conn) *tls.Conn { return tls.Server(conn, serverTLS().Config) }

// attachSecure makes ours a TLS server of r, and returns crypto/tls as its
// client, both after the handshake.
func attachSecure(t testing.TB, ours, peer net.Conn, r *recorder, opts *strand.AttachOptions) (strand.Transport, *tls.Conn) {
	t.Helper()
	var o strand.AttachOptions
	if opts != nil {
		o = *opts
	}
	if o.TLS == nil {
		o.TLS = serverTLS()
	}
	client := clientTLSConn(peer)
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	tr := attach(t, ours, r, &o)
	require.NoError(t, await(t, "the client's handshake", shaken))
	require.NoError(t, peer.SetDeadline(time.Now().Add(patience)))
	return tr, client
}

// connectedTLS is attachSecure over a new pair of kind k.
func connectedTLS(t testing.TB, k kind, r *recorder, opts *strand.AttachOptions) (strand.Transport, *tls.Conn) {
	t.Helper()
	ours, peer := k.pair(t)
	return attachSecure(t, ours, peer, r, opts)
}

// randomBytes are bytes that do not compress and whose order shows.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TL-01, XI-03: ConnectionMade comes after the handshake, with all there is to
// know about it, and TL-17: which is there for ever after. TL-12: the peer's
// close_notify comes behind its data, as one EOFReceived.
func TestTLSEchoAndClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		wantFacts := func(tr strand.Transport) {
			state, ok := strand.TLSState(tr)
			require.True(t, ok)
			require.True(t, state.HandshakeComplete)
			require.Equal(t, uint16(tls.VersionTLS13), state.Version)
			require.Equal(t, "TLS 1.3", tr.ExtraInfo(strand.ExtraCipher).(strand.Cipher).Version)
			require.NotZero(t, tr.ExtraInfo(strand.ExtraCipher).(strand.Cipher).Bits)
			require.NotNil(t, tr.ExtraInfo(strand.ExtraSSLContext))
			require.Nil(t, tr.ExtraInfo(strand.ExtraPeerCert), "none was asked for")
			require.Nil(t, tr.ExtraInfo(strand.ExtraCompression))
		}
		r.onMade = wantFacts
		r.onData = func(data []byte) { r.transport().Write(data) }
		r.onLost = func(error) { wantFacts(r.transport()) }
		tr, client := connectedTLS(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferHigh: 1 << 20}})
		sent := randomBytes(100_000)
		go client.Write(sent)
		require.True(t, bytes.Equal(sent, readN(t, client, len(sent))))
		require.NoError(t, client.Close())
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "close_notify is an end of file", "ConnectionMade", "DataReceived 100000", "EOFReceived", "ConnectionLost nil")
		wantFacts(tr)
	})
}

// TL-19: empty writes, and empty pieces, are nothing.
func TestTLSEmptyWrites(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, client := connectedTLS(t, k, newRecorder(), nil)
		for range 3 {
			n, err := tr.Write(nil)
			require.NoError(t, err)
			require.Zero(t, n)
		}
		n, err := tr.WriteLines(nil, []byte("ab"), nil, []byte("c"), []byte{})
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Equal(t, "abc", string(readN(t, client, 3)))
	})
}

// Writes of every size, one after the other and mixed with WriteLines, arrive
// whole and in order: small records, full records, gathered ones.
func TestTLSWriteSizes(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, client := connectedTLS(t, k, newRecorder(), nil)
		var want []byte
		for round := range 2 { // crypto/tls begins with small records
			for _, n := range []int{1, 100, 1023, 1024, 1025, 4 << 10, 16<<10 - 1, 16 << 10, 16<<10 + 1, 64 << 10, 128 << 10, 300_000} {
				p := randomBytes(n)
				want = append(want, p...)
				var err error
				if round == 0 {
					_, err = tr.Write(p)
				} else {
					_, err = tr.WriteLines(p[:n/3], p[n/3:n/2], p[n/2:])
				}
				require.NoError(t, err)
			}
		}
		require.True(t, bytes.Equal(want, readN(t, client, len(want))))
		tr.Close()
	})
}

// TL-02: a failed handshake gives the creating call an error, and the protocol
// nothing; the peer hears why.
func TestTLSHandshakeFails(t *testing.T) {
	for name, spoil := range map[string]func(*strand.TLSOptions){
		"untrusted certificate": func(o *strand.TLSOptions) { o.Config.RootCAs = x509.NewCertPool() },
		"wrong name":            func(o *strand.TLSOptions) { o.ServerName = "example.com" },
		"no common version":     func(o *strand.TLSOptions) { o.Config.MinVersion = tls.VersionTLS13 },
		"no common protocol":    func(o *strand.TLSOptions) { o.Config.NextProtos = []string{"none"} },
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				ours, peer := k.pair(t)
				shaken := make(chan error, 1)
				go func() {
					config := serverTLS().Config
					config.NextProtos = []string{"some"}
					if name == "no common version" {
						config.MaxVersion = tls.VersionTLS12
					}
					shaken <- tls.Server(peer, config).Handshake()
				}()
				opts := clientTLS()
				spoil(opts)
				r := newRecorder()
				_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: opts})
				require.ErrorContains(t, err, "TLS handshake")
				require.Empty(t, r.trace())
				err = await(t, "the peer's handshake", shaken)
				require.Error(t, err)
				require.NotErrorIs(t, err, io.EOF, "an alert says why")
			})
		})
	}
}

// oldHello is the ClientHello of a client that speaks no version we do.
func oldHello(t testing.TB) []byte {
	t.Helper()
	ours, peer := net.Pipe()
	defer ours.Close()
	o := clientTLS()
	o.Config.ServerName, o.Config.MaxVersion = o.ServerName, tls.VersionTLS12
	go tls.Client(peer, o.Config).Handshake()
	hello := make([]byte, 16<<10)
	n, err := ours.Read(hello)
	require.NoError(t, err)
	return hello[:n]
}

// TL-02: why a handshake failed is told, also if the alert for the peer does not
// get through: to one that has reset the connection, or that takes nothing until
// a limit or the program ends the connection.
func TestTLSHandshakeFailsUnheard(t *testing.T) {
	hello := string(oldHello(t))
	secure := func() *strand.TLSOptions {
		o := serverTLS()
		o.Config.MinVersion = tls.VersionTLS13
		return o
	}
	const why = "unsupported versions"
	t.Run("reset", func(t *testing.T) {
		eachKind(t, func(t *testing.T, k kind) {
			ours, peer := k.pair(t)
			mustSend(t, peer, hello)
			if k.name == "unix" {
				peer.Close()
			} else {
				reset(t, peer)
			}
			_, _, err := strand.Attach(context.Background(), ours, newRecorder, &strand.AttachOptions{TLS: secure()})
			require.ErrorContains(t, err, why)
		})
	})
	// stuck is a conn that does not get rid of the alert.
	stuck := func(t *testing.T) (conn *oddConn, peer net.Conn, sending chan struct{}) {
		ours, peer := tcpPair(t)
		sending = make(chan struct{})
		closed := make(chan struct{})
		conn = &oddConn{Conn: ours}
		conn.write = func([]byte) (int, error) {
			close(sending)
			<-closed
			return 0, net.ErrClosed
		}
		conn.close = func() error { close(closed); return nil }
		return conn, peer, sending
	}
	t.Run("CloseTimeout", func(t *testing.T) {
		conn, peer, _ := stuck(t)
		mustSend(t, peer, hello)
		o := &strand.AttachOptions{TLS: secure()}
		o.CloseTimeout = time.Millisecond
		_, _, err := strand.Attach(context.Background(), conn, newRecorder, o)
		require.ErrorContains(t, err, why)
	})
	t.Run("Abort", func(t *testing.T) {
		conn, peer, sending := stuck(t)
		r := newRecorder()
		done := make(chan error, 1)
		r.onMade = func(tr strand.Transport) {
			require.NoError(t, strand.StartTLS(tr, secure(), func(err error) { done <- err }))
		}
		tr := attach(t, conn, r, nil)
		mustSend(t, peer, hello)
		await(t, "the alert", sending)
		require.Eventually(t, tr.IsClosing, patience, time.Millisecond, "no callback tells")
		tr.Abort() // CL-06
		require.ErrorContains(t, await(t, "done", done), why)
		require.ErrorContains(t, r.awaitLost(t), why)
	})
	t.Run("HandshakeTimeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, peer := net.Pipe() // which waits for a reader
			defer peer.Close()
			go peer.Write([]byte(hello))
			o := &strand.AttachOptions{TLS: secure()}
			o.CloseTimeout = -1
			_, _, err := strand.Attach(context.Background(), ours, newRecorder, o)
			require.ErrorContains(t, err, why)
		})
	})
}

// CL-07: output that fails while a handshake computes is the end nevertheless, if
// the handshake itself has nothing to complain of, and if Close comes meanwhile.
func TestTLSOutputFailsDuringHandshake(t *testing.T) {
	t.Run("its own", func(t *testing.T) {
		ours, _ := tcpPair(t)
		conn := &oddConn{Conn: ours, write: func([]byte) (int, error) { return 0, syscall.EPIPE }}
		_, _, err := strand.Attach(context.Background(), conn, newRecorder, &strand.AttachOptions{TLS: clientTLS()})
		require.ErrorIs(t, err, syscall.EPIPE)
	})
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("before it, closes %v", closes), func(t *testing.T) {
			ours, peer := tcpPair(t)
			fail := make(chan struct{})
			conn := &oddConn{Conn: ours, write: func([]byte) (int, error) {
				<-fail
				return 0, syscall.EPIPE
			}}
			r := newRecorder()
			opts := serverTLS()
			opts.Config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				close(fail)
				if closes {
					r.transport().Close()
				}
				return nil, nil
			}
			done := make(chan error, 1)
			r.onMade = func(tr strand.Transport) {
				tr.Write([]byte("in clear"))
				require.NoError(t, strand.StartTLS(tr, opts, func(err error) { done <- err }))
			}
			attach(t, conn, r, nil)
			go clientTLSConn(peer).Handshake()
			require.ErrorIs(t, await(t, "done", done), syscall.EPIPE)
			require.ErrorIs(t, r.awaitLost(t), syscall.EPIPE)
		})
	}
}

// TL-04: the peer goes away in the middle of the handshake.
func TestTLSPeerLeavesDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		go func() {
			peer.Read(make([]byte, 5)) // the beginning of a ClientHello
			io.Copy(io.Discard, io.LimitReader(peer, 1))
			peer.(interface{ CloseWrite() error }).CloseWrite()
			io.Copy(io.Discard, peer)
		}()
		r := newRecorder()
		_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: clientTLS()})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Empty(t, r.trace())
	})
}

// TL-03, with a clock that nobody waits for: the handshake is given up after
// the default of 60 s, or what the options say.
func TestTLSHandshakeTimeout(t *testing.T) {
	for name, limit := range map[string]time.Duration{"default": 0, "set": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, peer := net.Pipe()
				defer peer.Close()
				go io.Copy(io.Discard, peer)
				opts := clientTLS()
				opts.HandshakeTimeout = limit
				r := newRecorder()
				start := time.Now()
				_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: opts})
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				var timeout *strand.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, "handshake", timeout.Op)
				if limit == 0 {
					limit = time.Minute
				}
				require.Equal(t, limit, timeout.After)
				require.Equal(t, limit, time.Since(start))
				require.Empty(t, r.trace())
			})
		})
	}
}

// TL-03: the timer is gone once the handshake is over.
func TestTLSHandshakeTimerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		client := clientTLSConn(peer)
		go client.Handshake()
		r := newRecorder()
		tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: serverTLS()})
		require.NoError(t, err)
		go io.Copy(io.Discard, client)
		time.Sleep(2 * time.Minute) // the fake clock's
		require.False(t, tr.IsClosing())
		tr.Abort()
		<-tr.Done()
	})
}

// TL-05: cancelling the creating call ends it and the connection.
func TestTLSCancelDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("changed my mind")
		go func() {
			peer.Read(make([]byte, 1)) // the handshake has begun
			cancel(why)
		}()
		r := newRecorder()
		_, _, err := strand.Attach(ctx, ours, func() *recorder { return r }, &strand.AttachOptions{TLS: clientTLS()})
		require.Equal(t, why, err)
		_, err = io.Copy(io.Discard, peer)
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
		require.Empty(t, r.trace())
	})
}

// TL-06, TL-07: options that make no sense are errors at once.
func TestTLSBadOptions(t *testing.T) {
	ctx := context.Background()
	for name, o := range map[string]*strand.TLSOptions{
		"handshake timeout": {HandshakeTimeout: -1, ServerName: "x"},
		"shutdown timeout":  {ShutdownTimeout: -1, ServerName: "x"},
		"no name":           {},
		"no certificate":    {ServerSide: true},
	} {
		t.Run(name, func(t *testing.T) {
			ours, peer := tcpPair(t)
			_, _, err := strand.Attach(ctx, ours, newRecorder, &strand.AttachOptions{TLS: o})
			require.ErrorContains(t, err, "bad option")
			_, err = ours.Write([]byte("x"))
			require.NoError(t, err, "the conn stays the caller's")
			require.Equal(t, "x", string(readN(t, peer, 1)))
		})
	}
	_, _, err := strand.CreateConnection(ctx, "unix", "/nowhere", newRecorder, &strand.ConnectOptions{TLS: &strand.TLSOptions{}})
	require.ErrorContains(t, err, "ServerName", "US-04: a path is no name")
	_, _, err = strand.CreateConnection(ctx, "tcp", "127.0.0.1:1", newRecorder, &strand.ConnectOptions{TLS: &strand.TLSOptions{Prefix: []byte("x")}})
	require.ErrorContains(t, err, "Prefix")
	_, _, err = strand.CreateConnection(ctx, "tcp", "127.0.0.1:1", newRecorder, &strand.ConnectOptions{TLS: &strand.TLSOptions{ServerSide: true}})
	require.ErrorContains(t, err, "ServerSide")
	_, err = strand.CreateServer(ctx, "tcp", "127.0.0.1:0", newRecorder, &strand.ServerOptions{TLS: &strand.TLSOptions{}})
	require.ErrorContains(t, err, "certificate")
	opts := serverTLS()
	opts.Prefix = []byte("x")
	_, err = strand.CreateServer(ctx, "tcp", "127.0.0.1:0", newRecorder, &strand.ServerOptions{TLS: opts})
	require.ErrorContains(t, err, "Prefix")
}

// secureServer is a TLS server of recorders.
func secureServer(t testing.TB, network, address string, opts *strand.TLSOptions, log *logBuffer) (*strand.Server, chan *recorder) {
	t.Helper()
	accepted := make(chan *recorder, 100)
	o := &strand.ServerOptions{TLS: opts}
	if log != nil {
		o.TransportOptions = logTo(log)
	}
	server, err := strand.CreateServer(context.Background(), network, address, func() *recorder {
		r := newRecorder()
		r.onData = func(data []byte) { r.transport().Write(data) }
		accepted <- r
		return r
	}, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		server.Close()
		server.AbortClients()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, server.Wait(ctx))
	})
	return server, accepted
}

// TL-07: the name to check is the host of the address, and the check is on by
// default.
func TestTLSNameOfTheHost(t *testing.T) {
	server, _ := secureServer(t, "tcp", "127.0.0.1:0", serverTLS(), nil)
	addr := server.Addrs()[0].String()
	_, pool := testCert()
	connectTo := func(addr string, o *strand.TLSOptions) error {
		r := newRecorder()
		tr, _, err := strand.CreateConnection(context.Background(), "tcp", addr, func() *recorder { return r }, &strand.ConnectOptions{TLS: o})
		if err == nil {
			tr.Write([]byte("hello"))
			r.awaitData(t, 5)
			tr.Close()
			require.NoError(t, r.awaitLost(t))
		}
		return err
	}
	connect := func(o *strand.TLSOptions) error { return connectTo(addr, o) }
	require.NoError(t, connect(&strand.TLSOptions{Config: &tls.Config{RootCAs: pool}}), "the certificate is for 127.0.0.1 too")
	require.Error(t, connect(&strand.TLSOptions{}), "the system's roots do not know the certificate")
	require.Error(t, connect(&strand.TLSOptions{Config: &tls.Config{RootCAs: pool}, ServerName: "other"}))
	require.NoError(t, connect(&strand.TLSOptions{Config: &tls.Config{InsecureSkipVerify: true}}))

	server, _ = secureServer(t, "tcp", "[::1]:0", serverTLS(), nil)
	_, port, err := net.SplitHostPort(server.Addrs()[0].String())
	require.NoError(t, err)
	require.NoError(t, connectTo("[::1%1]:"+port, &strand.TLSOptions{Config: &tls.Config{RootCAs: pool}}), "a zone is no part of the name")
}

// A server counts failed handshakes and logs them at debug level; TL-02: its
// factory is not even called. A client that says nothing holds up nobody, and
// TL-16: Server.Close aborts its handshake, which is no failure.
func TestTLSServerHandshakes(t *testing.T) {
	var log logBuffer
	server, accepted := secureServer(t, "tcp", "127.0.0.1:0", serverTLS(), &log)
	addr := server.Addrs()[0].String()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	silent := dial()
	noTLS := dial()
	noTLS.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	io.Copy(io.Discard, noTLS)
	require.EqualValues(t, 1, server.FailedHandshakes())
	require.Contains(t, log.String(), "level=DEBUG msg=\"strand: TLS handshake failed\"")
	require.NotContains(t, log.String(), "level=ERROR")
	require.Empty(t, accepted)

	client := clientTLSConn(dial())
	client.Write([]byte("hello"))
	require.Equal(t, "hello", string(readN(t, client, 5)), "the silent one does not matter")
	require.Len(t, accepted, 1)

	server.Close()
	_, err := silent.Read(make([]byte, 1))
	require.Error(t, err, "the unfinished handshake is aborted")
	client.Write([]byte("still"))
	require.Equal(t, "still", string(readN(t, client, 5)), "connections go on")
	client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, server.Wait(ctx))
	require.EqualValues(t, 1, server.FailedHandshakes())
}

// A panic in a function of the configuration ends that connection only.
func TestTLSPanicInHandshake(t *testing.T) {
	opts := serverTLS()
	opts.Config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("oops") }
	var log logBuffer
	server, accepted := secureServer(t, "tcp", "127.0.0.1:0", opts, &log)
	c, err := net.Dial("tcp", server.Addrs()[0].String())
	require.NoError(t, err)
	defer c.Close()
	require.Error(t, clientTLSConn(c).Handshake())
	server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, server.Wait(ctx))
	require.EqualValues(t, 1, server.FailedHandshakes())
	require.Contains(t, log.String(), "oops")
	require.Empty(t, accepted)
}

// TL-08: Close sends all that was written and close_notify, then waits for the
// peer's. TL-09: nothing is delivered after Close, no end of file either.
// TL-20: nothing is accepted. TL-21: a second Close does nothing.
func TestTLSClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, client := connectedTLS(t, k, r, nil)
		written := fill(t, tr)
		tr.Close()
		require.NoError(t, tr.Close())
		require.True(t, tr.IsClosing())
		n, err := tr.Write([]byte("late"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.Zero(t, n)
		got, err := io.ReadAll(client)
		require.NoError(t, err, "close_notify came, and before it everything")
		require.Len(t, got, written)
		require.NotContains(t, r.trace(), "ConnectionLost nil", "the peer has not said goodbye")
		client.Write([]byte("late data are discarded")) // TL-11
		require.NoError(t, client.CloseWrite())
		require.NoError(t, r.awaitLost(t))
		require.NotContains(t, r.trace(), "EOFReceived")
		require.NotContains(t, strings.Join(r.trace(), " "), "DataReceived")
		_, err = tr.Write([]byte("later"))
		require.ErrorIs(t, err, net.ErrClosed)
		tr.Close()
		tr.Abort()
	})
}

// TL-10, TL-21: a peer that does not answer close_notify is given up after
// ShutdownTimeout. Reading was paused: that does not matter.
func TestTLSShutdownTimeout(t *testing.T) {
	for name, limit := range map[string]time.Duration{"default": 0, "set": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, peer := net.Pipe()
				defer peer.Close()
				client := clientTLSConn(peer)
				go client.Handshake()
				opts := serverTLS()
				opts.ShutdownTimeout = limit
				r := newRecorder()
				tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: opts})
				require.NoError(t, err)
				tr.PauseReading()
				go io.Copy(io.Discard, client)
				synctest.Wait()
				start := time.Now()
				tr.Close()
				tr.Close()
				<-tr.Done()
				if limit == 0 {
					limit = 30 * time.Second
				}
				require.Equal(t, limit, time.Since(start))
				var timeout *strand.TimeoutError
				require.ErrorAs(t, r.lost, &timeout)
				require.Equal(t, "shutdown", timeout.Op)
			})
		})
	}
}

// CL-01 over TLS: CloseTimeout is for the output, before the shutdown begins.
func TestTLSCloseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		client := clientTLSConn(peer)
		go client.Handshake()
		r := newRecorder()
		tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, &strand.AttachOptions{TLS: serverTLS()})
		require.NoError(t, err)
		synctest.Wait()
		tr.Write([]byte("nobody reads this"))
		start := time.Now()
		tr.Close()
		<-tr.Done()
		require.Equal(t, 30*time.Second, time.Since(start))
		var timeout *strand.TimeoutError
		require.ErrorAs(t, r.lost, &timeout)
		require.Equal(t, "close", timeout.Op)
	})
}

// TL-12, TL-13: what is written inside EOFReceived still goes out, then the
// connection closes whatever EOFReceived returns, with a warning.
func TestTLSWriteInEOFReceived(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var log logBuffer
		r := newRecorder()
		last := randomBytes(200_000)
		r.onEOF = func() bool {
			r.transport().Write(last)
			return true
		}
		_, client := connectedTLS(t, k, r, &strand.AttachOptions{TransportOptions: logTo(&log)})
		client.Write([]byte("hello"))
		require.NoError(t, client.CloseWrite())
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.True(t, bytes.Equal(last, got))
		require.NoError(t, r.awaitLost(t))
		require.Contains(t, log.String(), "level=WARN")
	})
}

// TL-14: a FIN without close_notify is an end of file, or with StrictEOF an
// error; also in the middle of a record.
func TestTLSTruncated(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for name, cut := range map[string]int{"between records": 0, "in a header": 3, "in a record": 10} {
			t.Run(fmt.Sprintf("%s, strict %v", name, strict), func(t *testing.T) {
				eachKind(t, func(t *testing.T, k kind) {
					opts := serverTLS()
					opts.StrictEOF = strict
					r := newRecorder()
					ours, peer := k.pair(t)
					_, client := attachSecure(t, ours, peer, r, &strand.AttachOptions{TLS: opts})
					client.Write([]byte("hello"))
					peer.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3, 4, 5}[:cut])
					require.NoError(t, peer.(interface{ CloseWrite() error }).CloseWrite())
					err := r.awaitLost(t)
					if strict {
						require.Equal(t, io.ErrUnexpectedEOF, err)
						r.wantCalls(t, "an attacker can do that as well", "ConnectionMade", "DataReceived 5", "ConnectionLost unexpected EOF")
					} else {
						r.wantCalls(t, "as in asyncio", "ConnectionMade", "DataReceived 5", "EOFReceived", "ConnectionLost nil")
					}
				})
			})
		}
	}
}

// StrictEOF is content with close_notify, even if it comes with the FIN.
func TestTLSStrictEOFOrderly(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		opts := serverTLS()
		opts.StrictEOF = true
		r := newRecorder()
		_, client := connectedTLS(t, k, r, &strand.AttachOptions{TLS: opts})
		client.Write([]byte("hello"))
		client.Close()
		require.NoError(t, r.awaitLost(t))
	})
}

// eofConn returns its last bytes together with the end, as io.Reader allows.
type eofConn struct {
	net.Conn
	atOnce atomic.Bool
}

func (c *eofConn) Read(p []byte) (int, error) {
	if !c.atOnce.Load() {
		return c.Conn.Read(p)
	}
	n := 0
	for {
		k, err := c.Conn.Read(p[n:])
		if n += k; err != nil {
			return n, err
		}
	}
}

// Bytes that come together with an error count: close_notify among them makes
// the end an orderly one.
func TestTLSLastBytesWithError(t *testing.T) {
	ours, peer := tcpPair(t)
	conn := &eofConn{Conn: ours}
	opts := serverTLS()
	opts.StrictEOF = true
	r := newRecorder()
	r.onData = func([]byte) { conn.atOnce.Store(true) }
	_, client := attachSecure(t, conn, peer, r, &strand.AttachOptions{TLS: opts})
	client.Write([]byte("a"))
	r.awaitData(t, 1)
	client.Write([]byte("bc"))
	client.Close()
	require.NoError(t, r.awaitLost(t))
	r.wantCalls(t, "nothing is lost", "ConnectionMade", "DataReceived 3", "EOFReceived", "ConnectionLost nil")
}

// TL-15: a RST, and records that are not what the peer's key makes.
func TestTLSBroken(t *testing.T) {
	t.Run("reset", func(t *testing.T) {
		ours, peer := tcpPair(t)
		r := newRecorder()
		attachSecure(t, ours, peer, r, nil)
		reset(t, peer)
		require.ErrorIs(t, r.awaitLost(t), syscall.ECONNRESET)
		r.wantCalls(t, "no end of file", "ConnectionMade", "ConnectionLost ECONNRESET")
	})
	for name, record := range map[string][]byte{
		"corrupted": append([]byte{23, 3, 3, 0, 100}, make([]byte, 100)...),
		"oversized": {23, 3, 3, 0xFF, 0xFF},
		"plaintext": []byte("GET / HTTP/1.0\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				ours, peer := k.pair(t)
				var log logBuffer
				r := newRecorder()
				_, client := attachSecure(t, ours, peer, r, &strand.AttachOptions{TransportOptions: logTo(&log)})
				client.Write([]byte("hello"))
				peer.Write(record)
				require.Error(t, r.awaitLost(t))
				require.Equal(t, []string{"ConnectionMade", "DataReceived 5"}, r.trace()[:2], "what came before is delivered")
				require.NotContains(t, r.trace(), "EOFReceived")
				require.NotContains(t, log.String(), "ERROR", "the peer's mistake is not ours")
			})
		})
	}
}

// TL-15: it is the broken record that ends the connection, also if the alert that
// crypto/tls sends because of it meets a peer that is gone.
func TestTLSBrokenAndGone(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newRecorder()
		gone := make(chan struct{})
		r.onData = func([]byte) { <-gone }
		_, client := attachSecure(t, ours, peer, r, nil)
		client.Write([]byte("hello"))
		r.awaitData(t, 5)
		_, err := peer.Write(append([]byte{23, 3, 3, 0, 100}, make([]byte, 100)...))
		require.NoError(t, err)
		if k.name == "unix" {
			peer.Close()
		} else {
			reset(t, peer)
		}
		close(gone)
		require.ErrorContains(t, r.awaitLost(t), "bad record MAC")
	})
}

// A goodbye that nobody hears is no failure, also if the Write of the data before
// it has not returned when the peer, which has them all, is gone.
func TestTLSGoodbyeUnheard(t *testing.T) {
	ours, peer := tcpPair(t)
	conn := &oddConn{Conn: ours}
	var shaken atomic.Bool
	there, release := make(chan struct{}), make(chan struct{})
	conn.write = func(p []byte) (int, error) {
		if !shaken.Load() {
			return ours.Write(p)
		}
		select {
		case <-there:
			return 0, syscall.EPIPE
		default:
		}
		n, err := ours.Write(p)
		close(there)
		<-release
		return n, err
	}
	opts := serverTLS()
	opts.Config.MaxVersion = tls.VersionTLS12 // the server's last word is part of the handshake
	r := newRecorder()
	tr, client := attachSecure(t, conn, peer, r, &strand.AttachOptions{TLS: opts})
	shaken.Store(true)
	tr.Write([]byte("all"))
	require.Equal(t, "all", string(readN(t, client, 3)))
	await(t, "the data", there)
	data := tr.WriteBufferSize()
	require.NotZero(t, data)
	tr.Close()
	require.Eventually(t, func() bool { return tr.WriteBufferSize() > data }, patience, time.Millisecond, "no callback tells")
	close(release)
	require.NoError(t, r.awaitLost(t))
}

// A client learns late that the server of TLS 1.3 does not want its certificate,
// perhaps after Close. That is no peer that is just gone: what was written was
// rejected.
func TestTLSAlertAfterClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		closed := make(chan struct{})
		config := serverTLS().Config
		config.VerifyConnection = func(tls.ConnectionState) error {
			<-closed
			return errors.New("not you")
		}
		go tls.Server(peer, config).Handshake()
		r := newRecorder()
		tr := attach(t, ours, r, &strand.AttachOptions{TLS: clientTLS()})
		tr.Write([]byte("x"))
		tr.Close()
		close(closed)
		require.ErrorContains(t, r.awaitLost(t), "bad certificate")
	})
}

// What TLS itself has to say is not the user's: if nobody hears it after Close,
// nothing is lost. Here it is the session ticket, whose Write has not returned.
func TestTLSTicketUnheard(t *testing.T) {
	ours, peer := tcpPair(t)
	release := make(chan struct{})
	first := true
	conn := &oddConn{Conn: ours}
	conn.write = func(p []byte) (int, error) {
		if first {
			first = false
			return ours.Write(p)
		}
		<-release
		return 0, syscall.EPIPE
	}
	o := clientTLS()
	o.Config.ServerName, o.Config.ClientSessionCache = o.ServerName, tls.NewLRUClientSessionCache(1)
	go tls.Client(peer, o.Config).Handshake()
	r := newRecorder()
	opts := serverTLS()
	opts.Config.ClientAuth = tls.RequestClientCert // or the ticket comes with the rest
	tr := attach(t, conn, r, &strand.AttachOptions{TLS: opts})
	require.NotZero(t, tr.WriteBufferSize(), "the ticket")
	tr.Close()
	close(release)
	require.NoError(t, r.awaitLost(t))
}

// After Close input is only read to hear the peer's goodbye. A peer that resets
// the connection instead, perhaps because it has not read ours, is no failure
// once all is out (CL-06); before, its reset is (CL-07).
func TestTLSResetAfterClose(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held %v", held), func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				if k.name == "unix" {
					t.Skip("has no reset")
				}
				ours, peer := k.pair(t)
				r := newRecorder()
				opts := serverTLS()
				opts.Config.MaxVersion = tls.VersionTLS12 // no session ticket comes after the handshake
				tr, _ := attachSecure(t, ours, peer, r, &strand.AttachOptions{TLS: opts})
				if held {
					fill(t, tr)
					tr.Write(make([]byte, 16<<20)) // more than the network holds
				}
				tr.Close()
				readN(t, peer, 5) // the goodbye, or the data
				reset(t, peer)
				err := r.awaitLost(t)
				if held {
					require.Contains(t, []string{"ECONNRESET", "EPIPE"}, errName(err))
				} else {
					require.NoError(t, err)
				}
			})
		})
	}
}

// A reset that the reader meets while the Write of the last data has not
// returned says nothing about these: Write does.
func TestTLSResetBesideTheLastWrite(t *testing.T) {
	for _, failure := range []error{nil, syscall.EPIPE} {
		t.Run(errName(failure), func(t *testing.T) {
			ours, peer := tcpPair(t)
			conn := &oddConn{Conn: ours}
			var shaken, over atomic.Bool
			gone, release := make(chan struct{}), make(chan struct{})
			conn.read = func(p []byte) (int, error) {
				n, err := ours.Read(p)
				if errors.Is(err, syscall.ECONNRESET) && !over.Swap(true) {
					close(gone)
				}
				return n, err
			}
			conn.write = func(p []byte) (int, error) {
				if shaken.Load() {
					ours.Write(p)
					<-release
					if failure != nil {
						return 0, failure
					}
					return len(p), nil
				}
				return ours.Write(p)
			}
			r := newRecorder()
			opts := serverTLS()
			opts.Config.MaxVersion = tls.VersionTLS12 // no session ticket comes after the handshake
			tr, client := attachSecure(t, conn, peer, r, &strand.AttachOptions{TLS: opts})
			shaken.Store(true)
			tr.Write([]byte("all"))
			require.Equal(t, "all", string(readN(t, client, 3)))
			tr.Close()
			reset(t, peer)
			await(t, "the reset", gone)
			close(release)
			require.ErrorIs(t, r.awaitLost(t), failure)
		})
	}
}

// TL-16: Abort says no goodbye and waits for nothing, also during the shutdown.
func TestTLSAbort(t *testing.T) {
	for _, during := range []string{"open", "shutdown", "flush"} {
		t.Run(during, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				opts := serverTLS()
				opts.Config.MaxVersion = tls.VersionTLS12 // no session ticket comes after the handshake
				tr, client := connectedTLS(t, k, r, &strand.AttachOptions{TLS: opts})
				switch during {
				case "shutdown":
					tr.Close()
					_, err := client.Read(make([]byte, 1))
					require.Equal(t, io.EOF, err)
				case "flush":
					fill(t, tr)
					tr.Close()
				}
				tr.Abort()
				require.NoError(t, r.awaitLost(t))
				require.Zero(t, tr.WriteBufferSize())
				if during == "open" {
					require.Empty(t, readAll(t, client.NetConn()), "no close_notify")
				}
				r.wantCalls(t, "nothing but the end", slices.DeleteFunc(r.trace(), func(c string) bool { return c == "EOFReceived" })...)
			})
		})
	}
}

// TL-18: there is no half close.
func TestTLSNoWriteEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		tr, client := connectedTLS(t, k, newRecorder(), nil)
		require.False(t, tr.CanWriteEOF())
		require.ErrorIs(t, tr.WriteEOF(), errors.ErrUnsupported)
		tr.Write([]byte("x"))
		readN(t, client, 1)
	})
}

// TL-22: IsReading is as on any transport: not paused and not closing; pausing
// twice is pausing once.
func TestTLSIsReading(t *testing.T) {
	tr, client := connectedTLS(t, kinds[0], newRecorder(), nil)
	require.True(t, tr.IsReading())
	tr.PauseReading()
	tr.PauseReading()
	require.False(t, tr.IsReading())
	tr.ResumeReading()
	tr.ResumeReading()
	require.True(t, tr.IsReading())
	tr.Close()
	require.False(t, tr.IsReading())
	client.Close()
	<-tr.Done()
}

// TL-23: while reading is paused nothing comes, neither data nor the end; after
// it, all of it in order. TL-26: what is not read stays in the kernel, so that
// the peer cannot send for ever.
func TestTLSPauseReading(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, client := connectedTLS(t, k, r, nil)
		tr.PauseReading()
		sent := randomBytes(50_000)
		for p := sent; len(p) > 0; p = p[1000:] {
			_, err := client.Write(p[:1000])
			require.NoError(t, err)
		}
		require.NoError(t, client.Close())
		require.True(t, tr.CallSoon(func() {}))
		require.Equal(t, []string{"ConnectionMade"}, r.trace())
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
		requireSame(t, sent, r.received(), "nothing is lost")
		r.wantCalls(t, "data, then the end", "ConnectionMade", "DataReceived 50000", "EOFReceived", "ConnectionLost nil")
	})
}

// TL-23: pausing in the middle of a record: what is decrypted already waits.
func TestTLSPauseInCallback(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		paused := make(chan int, 1000)
		r.onData = func(data []byte) {
			r.transport().PauseReading()
			paused <- len(data)
		}
		tr, client := connectedTLS(t, k, r, nil)
		sent := randomBytes(300_000)
		go func() {
			client.Write(sent)
			client.Close()
		}()
		for total := 0; total < len(sent); tr.ResumeReading() {
			total += await(t, "a piece", paused)
			require.Len(t, r.received(), total, "one callback, then silence")
		}
		require.NoError(t, r.awaitLost(t))
		requireSame(t, sent, r.received(), "all pieces")
	})
}

// TL-24, FC-13: the water marks are those of every transport. TL-25:
// WriteBufferSize is what the kernel has not taken, the records' overhead
// included. A reader that is slow stops the sender, and what is held stays
// bounded.
func TestTLSWaterMarks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var held, total atomic.Int64
		const end = 8 << 20
		r := newRecorder()
		piece := randomBytes(10_000)
		feed := func() {
			tr := r.transport()
			for tr.Writable() && total.Load() < end {
				n, err := tr.Write(piece)
				if err != nil {
					return
				}
				total.Add(int64(n))
				held.Store(max(held.Load(), int64(tr.WriteBufferSize())))
			}
			if total.Load() >= end {
				tr.Close()
			}
		}
		r.onMade = func(strand.Transport) { feed() }
		r.onResume = feed
		tr, client := connectedTLS(t, k, r, nil)
		low, high := tr.WriteBufferLimits()
		require.Equal(t, [2]int{16 << 10, 64 << 10}, [2]int{low, high})
		r.awaitCall(t, "PauseWriting")
		require.Less(t, total.Load(), int64(end), "the sender was stopped")
		n, err := io.Copy(io.Discard, client)
		require.NoError(t, err)
		require.Equal(t, total.Load(), n)
		client.Close()
		require.NoError(t, r.awaitLost(t))
		require.LessOrEqual(t, held.Load(), int64(high+len(piece)+1000), "one write over the mark, and its records' overhead")
		pauses := slices.DeleteFunc(r.trace(), func(c string) bool { return c != "PauseWriting" && c != "ResumeWriting" })
		for i, c := range pauses {
			require.Equal(t, []string{"PauseWriting", "ResumeWriting"}[i%2], c)
		}
	})
}

// WriteBufferMax is kept, and a refusal does no harm: one failed write of
// crypto/tls would be its last.
func TestTLSBufferFull(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, client := connectedTLS(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{WriteBufferMax: 1 << 20}})
		p := randomBytes(100_000)
		var want []byte
		for {
			_, err := tr.Write(p)
			if err != nil {
				require.ErrorIs(t, err, strand.ErrBufferFull)
				break
			}
			want = append(want, p...)
		}
		requireSame(t, want, readN(t, client, len(want)), "what was accepted")
		tr.Close()
	})
}

// TL-27: a panic in a callback ends the connection, as everywhere.
func TestTLSPanic(t *testing.T) {
	for _, where := range []string{"made", "data", "eof", "lost"} {
		t.Run(where, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				boom := func(here string) {
					if here == where {
						panic("boom")
					}
				}
				r.onMade = func(strand.Transport) { boom("made") }
				r.onData = func([]byte) { boom("data") }
				r.onEOF = func() bool { boom("eof"); return false }
				r.onLost = func(error) { boom("lost") }
				ours, peer := k.pair(t)
				client := clientTLSConn(peer)
				go func() {
					client.Write([]byte("x"))
					client.CloseWrite()
				}()
				opts := &strand.AttachOptions{TLS: serverTLS(), TransportOptions: strand.TransportOptions{Logger: quiet}}
				_, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, opts)
				var panicked *strand.PanicError
				if where == "made" {
					require.ErrorAs(t, err, &panicked)
				} else {
					require.NoError(t, err)
				}
				if err := r.awaitLost(t); where == "lost" {
					require.NoError(t, err)
				} else {
					require.ErrorAs(t, err, &panicked)
				}
			})
		})
	}
}

// TL-28: Close inside ConnectionMade and DataReceived; what was written before
// is sent.
func TestTLSCloseInCallback(t *testing.T) {
	for _, where := range []string{"made", "data"} {
		t.Run(where, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				bye := func() {
					r.transport().Write([]byte("bye"))
					r.transport().Close()
				}
				if where == "made" {
					r.onMade = func(strand.Transport) { bye() }
				} else {
					r.onData = func([]byte) { bye() }
				}
				_, client := connectedTLS(t, k, r, nil)
				client.Write([]byte("x"))
				got, err := io.ReadAll(client)
				require.NoError(t, err)
				require.Equal(t, "bye", string(got))
				client.Close()
				require.NoError(t, r.awaitLost(t))
			})
		})
	}
}

// Every method may be called from every callback.
func TestTLSMethodsInCallbacks(t *testing.T) {
	calls := map[string]func(strand.Transport){
		"Close":        func(tr strand.Transport) { tr.Close() },
		"Abort":        func(tr strand.Transport) { tr.Abort() },
		"PauseReading": func(tr strand.Transport) { tr.PauseReading(); tr.CallSoon(tr.ResumeReading) },
		"SetProtocol":  func(tr strand.Transport) { tr.SetProtocol(tr.Protocol()) },
		"StartTLS": func(tr strand.Transport) {
			strand.StartTLS(tr, serverTLS(), nil)
			tr.CallSoon(tr.Abort)
		},
		"Write": func(tr strand.Transport) { tr.WriteLines([]byte("a"), make([]byte, 100_000)) },
	}
	for name, call := range calls {
		for _, where := range []string{"made", "data", "eof", "pause", "resume", "lost"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				eachKind(t, func(t *testing.T, k kind) {
					r := newRecorder()
					do := func(here string) {
						if here == where {
							call(r.transport())
						}
					}
					r.onMade = func(strand.Transport) { do("made") }
					r.onData = func([]byte) {
						do("data")
						r.transport().Write(make([]byte, 300_000)) // over the mark, and back
					}
					r.onEOF = func() bool { do("eof"); return false }
					r.onPause = func() { do("pause") }
					r.onResume = func() { do("resume") }
					r.onLost = func(error) { do("lost") }
					_, client := connectedTLS(t, k, r, nil)
					go func() {
						client.Write([]byte("hello"))
						client.CloseWrite()
						io.Copy(io.Discard, client)
						client.Close()
					}()
					r.awaitLost(t)
					r.mu.Lock()
					defer r.mu.Unlock()
					require.Empty(t, r.broken)
				})
			})
		}
	}
}

// Many goroutines write at once: pieces stay whole, and in the order of each
// goroutine.
func TestTLSConcurrentWrites(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const writers, pieces = 8, 50
		tr, client := connectedTLS(t, k, newRecorder(), nil)
		var wg sync.WaitGroup
		size := 0
		for w := range writers {
			wg.Add(1)
			size += pieces * (1 + 100*(w+1))
			go func() {
				defer wg.Done()
				for i := range pieces {
					body := bytes.Repeat([]byte{byte(i)}, 100*(w+1))
					if _, err := tr.WriteLines([]byte{byte(w)}, body); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		got := readN(t, client, size)
		wg.Wait()
		var next [writers]int
		for len(got) > 0 {
			w := int(got[0])
			body := got[1 : 1+100*(w+1)]
			require.Equal(t, bytes.Repeat([]byte{byte(next[w])}, len(body)), body)
			next[w]++
			got = got[1+len(body):]
		}
		tr.Close()
	})
}

// Writing goes on from other goroutines while the connection is closed,
// aborted or lost: every write is accepted whole or refused.
func TestTLSWriteAgainstTheEnd(t *testing.T) {
	for name, end := range map[string]func(strand.Transport, net.Conn){
		"Close": func(tr strand.Transport, _ net.Conn) { tr.Close() },
		"Abort": func(tr strand.Transport, _ net.Conn) { tr.Abort() },
		"peer":  func(_ strand.Transport, peer net.Conn) { peer.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				tr, client := connectedTLS(t, k, r, nil)
				var accepted atomic.Int64
				var wg sync.WaitGroup
				for range 4 {
					wg.Add(1)
					go func() {
						defer wg.Done()
						p := make([]byte, 3000)
						for {
							n, err := tr.Write(p)
							if err != nil {
								if n != 0 || !errors.Is(err, net.ErrClosed) {
									t.Error(n, err)
								}
								return
							}
							accepted.Add(int64(n))
						}
					}()
				}
				readN(t, client, 10_000)
				received := make(chan int64, 1)
				go func() {
					n, _ := io.Copy(io.Discard, client)
					client.Close()
					received <- n + 10_000
				}()
				end(tr, client.NetConn())
				r.awaitLost(t)
				wg.Wait()
				if n := await(t, "the peer's end", received); name == "Close" {
					require.Equal(t, accepted.Load(), n, "what was accepted arrives")
				}
			})
		})
	}
}

// A BufferedProtocol gets the decrypted bytes in its own memory, however small
// that is.
func TestTLSBuffered(t *testing.T) {
	for _, size := range []int{1, 100, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				ours, peer := k.pair(t)
				client := clientTLSConn(peer)
				sent := randomBytes(40_000)
				go func() {
					client.Write(sent)
					client.Close()
				}()
				p := &filling{buf: make([]byte, size)}
				tr, _, err := strand.Attach(context.Background(), ours, func() *filling { return p }, &strand.AttachOptions{TLS: serverTLS()})
				require.NoError(t, err)
				await(t, "the end", tr.Done())
				require.NoError(t, p.lost)
				requireSame(t, sent, p.got, "all of it")
			})
		})
	}
}

// filling is a BufferedProtocol with one buffer.
type filling struct {
	strand.NopProtocol
	buf, got []byte
	lost     error
}

func (p *filling) GetBuffer(int) []byte     { return p.buf }
func (p *filling) BufferUpdated(n int)      { p.got = append(p.got, p.buf[:n]...) }
func (p *filling) ConnectionLost(err error) { p.lost = err }

// Everything works with TLS 1.2 too.
func TestTLS12(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		opts := serverTLS()
		opts.Config.MaxVersion = tls.VersionTLS12
		r := newRecorder()
		r.onData = func(data []byte) { r.transport().Write(data) }
		tr, client := connectedTLS(t, k, r, &strand.AttachOptions{TLS: opts})
		state, _ := strand.TLSState(tr)
		require.Equal(t, uint16(tls.VersionTLS12), state.Version)
		sent := randomBytes(50_000)
		go client.Write(sent)
		requireSame(t, sent, readN(t, client, len(sent)), "the echo")
		client.Close()
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "close_notify is an end of file", "ConnectionMade", "DataReceived 50000", "EOFReceived", "ConnectionLost nil")
	})
}

// A client's certificate is asked for, checked and shown; ALPN is settled.
func TestTLSClientCertificateAndALPN(t *testing.T) {
	cert, pool := testCert()
	opts := serverTLS()
	opts.Config.ClientAuth = tls.RequireAndVerifyClientCert
	opts.Config.ClientCAs = pool
	opts.Config.NextProtos = []string{"b", "a"}
	server, accepted := secureServer(t, "tcp", "127.0.0.1:0", opts, nil)
	connect := func(o *strand.TLSOptions) (*recorder, error) {
		r := newRecorder()
		_, _, err := strand.CreateConnection(context.Background(), "tcp", server.Addrs()[0].String(), func() *recorder { return r }, &strand.ConnectOptions{TLS: o})
		return r, err
	}
	o := clientTLS()
	o.Config.NextProtos = []string{"a"}
	r, err := connect(o)
	require.NoError(t, err, "in TLS 1.3 the client is ready before the server has seen its certificate")
	require.ErrorContains(t, r.awaitLost(t), "certificate required")
	require.Empty(t, accepted)

	o.Config.Certificates = []tls.Certificate{cert}
	r, err = connect(o)
	require.NoError(t, err)
	r.transport().Write([]byte("hello"))
	r.awaitData(t, 5)
	s := await(t, "the server's protocol", accepted)
	require.Equal(t, "localhost", s.transport().ExtraInfo(strand.ExtraPeerCert).(*x509.Certificate).Subject.CommonName)
	require.NotNil(t, r.transport().ExtraInfo(strand.ExtraPeerCert))
	state, _ := strand.TLSState(s.transport())
	require.Equal(t, "a", state.NegotiatedProtocol)
	r.transport().Close()
	require.NoError(t, r.awaitLost(t))
	require.NoError(t, s.awaitLost(t))
}

// Sessions are resumed across connections, with both versions, and StartTLS
// servers share their keys too: the Config is used as it is.
func TestTLSResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client := serverTLS(), clientTLS()
			server.Config.MaxVersion = version
			client.Config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for round := range 3 {
				ours, peer := tcpPair(t)
				s, c := newRecorder(), newRecorder()
				s.onData = func(data []byte) { s.transport().Write(data) }
				go strand.Attach(context.Background(), ours, func() *recorder { return s }, &strand.AttachOptions{TLS: server})
				tr := attach(t, peer, c, &strand.AttachOptions{TLS: client})
				tr.Write([]byte("hello"))
				c.awaitData(t, 5) // behind the session ticket
				state, _ := strand.TLSState(tr)
				require.Equal(t, round > 0, state.DidResume)
				tr.Close()
				require.NoError(t, c.awaitLost(t))
				require.NoError(t, s.awaitLost(t))
			}
		})
	}
}

// US-04: TLS over a Unix socket needs a name, and then works.
func TestTLSOverUnix(t *testing.T) {
	path := shortTempDir(t) + "/s"
	_, accepted := secureServer(t, "unix", path, serverTLS(), nil)
	r := newRecorder()
	tr, _, err := strand.CreateConnection(context.Background(), "unix", path, func() *recorder { return r }, &strand.ConnectOptions{TLS: clientTLS()})
	require.NoError(t, err)
	tr.Write([]byte("hello"))
	r.awaitData(t, 5)
	tr.Close()
	require.NoError(t, r.awaitLost(t))
	require.NoError(t, await(t, "the server's protocol", accepted).awaitLost(t))
}

// Both ends ours, over net.Pipe, whose writes wait for the other end's reads.
func TestTLSOverNetPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		s, c := newRecorder(), newRecorder()
		s.onData = func(data []byte) { s.transport().Write(data) }
		go strand.Attach(context.Background(), ours, func() *recorder { return s }, &strand.AttachOptions{TLS: serverTLS()})
		tr, _, err := strand.Attach(context.Background(), peer, func() *recorder { return c }, &strand.AttachOptions{TLS: clientTLS()})
		require.NoError(t, err)
		sent := randomBytes(300_000)
		tr.Write(sent)
		synctest.Wait()
		requireSame(t, sent, c.received(), "the echo")
		tr.Close()
		<-tr.Done()
		<-s.transport().Done()
		require.NoError(t, c.lost)
		require.NoError(t, s.lost)
	})
}

// No descriptor and no goroutine is left, however a connection ends: goleak
// looks for the goroutines at the end of all tests.
func TestTLSDescriptors(t *testing.T) {
	server, _ := secureServer(t, "tcp", "127.0.0.1:0", serverTLS(), nil)
	addr := server.Addrs()[0].String()
	before := openDescriptors(t)
	for i := range 20 {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		client := clientTLSConn(c)
		switch i % 4 {
		case 0: // no handshake at all
		case 1:
			require.NoError(t, client.Handshake())
		case 2:
			require.NoError(t, client.Handshake())
			require.NoError(t, client.Close())
		case 3:
			require.NoError(t, client.Handshake())
			reset(t, c)
		}
		c.Close()
	}
	server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, server.Wait(ctx))
	requireDescriptors(t, before)
}
