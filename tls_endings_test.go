package strand_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// Endings of TLS inside TLS, and of TLS over conns that fail.

// nested is a server of ours inside two TLS sessions, and crypto/tls as the
// peer's end of both.
type nested struct {
	r            *recorder
	tr           strand.Transport
	peer         net.Conn
	outer, inner *tls.Conn
}

func nest(t testing.TB, k kind, inside *strand.TLSOptions) *nested {
	t.Helper()
	n := &nested{r: newRecorder()}
	ours, peer := k.pair(t)
	n.peer = peer
	n.tr, n.outer = attachSecure(t, ours, peer, n.r, &strand.AttachOptions{TLS: quietTLS(nil)})
	done := make(chan error, 1)
	require.NoError(t, strand.StartTLS(n.tr, inside, func(err error) { done <- err }))
	n.inner = clientTLSConn(n.outer)
	require.NoError(t, n.inner.Handshake())
	require.NoError(t, await(t, "done", done))
	return n
}

// quietTLS are a server's options without session tickets, which would come
// after the handshake.
func quietTLS(change func(o *strand.TLSOptions)) *strand.TLSOptions {
	o := serverTLS()
	o.Config.SessionTicketsDisabled = true
	if change != nil {
		change(o)
	}
	return o
}

// TL-29, TL-12, law 5: a peer that has said the inner goodbye says the outer one
// too, in its own time. To close without having read it would reset the connection,
// and the peer would lose what it has not read yet.
func TestTLSInsideTLSOuterGoodbyeLate(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		n := nest(t, k, quietTLS(nil))
		last := randomBytes(4 << 20) // more than the network holds
		n.r.onEOF = func() bool { n.tr.Write(last); return false }
		require.NoError(t, n.inner.CloseWrite())
		n.r.awaitCall(t, "EOFReceived")
		require.NoError(t, n.outer.CloseWrite())
		requireSame(t, last, readAll(t, n.inner), "what was accepted")
		require.Empty(t, readAll(t, n.outer), "our outer goodbye")
		require.NoError(t, n.r.awaitLost(t))
		require.Empty(t, readAll(t, n.peer), "an end, and no reset")
	})
}

// A peer that asks for new keys of the outer session and reads none of the answers
// is thrown out before they fill the memory, also while the inner one is begun.
func TestTLSInsideTLSKeyUpdateFlood(t *testing.T) {
	r := newRecorder()
	tr, f, _ := forgery(t, kinds[0], r, nil)
	fill(t, tr)
	done := make(chan error, 1)
	require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { done <- err }))
	before := tr.WriteBufferSize()
	hello := append([]byte{handshakeRecord, 3, 1, 0x40, 0, 1, 0, 0xFF, 0xFF}, make([]byte, 16<<10)...)
	for i := 0; !tr.IsClosing(); i++ {
		require.Less(t, i, len(hello), "nobody stops the flood")
		burst := f.record(dataRecord, hello[i:i+1]) // or crypto/tls itself takes offence
		for range 10 {
			burst = append(burst, f.record(handshakeRecord, keyUpdate)...)
		}
		if _, err := f.conn.Write(burst); err != nil {
			break
		}
		require.Less(t, tr.WriteBufferSize(), before+100_000)
	}
	require.ErrorContains(t, await(t, "done", done), "does not read")
	require.ErrorContains(t, r.awaitLost(t), "does not read")
}

// TS-04: the peer is told why the handshake failed, also if Close came before,
// and over a conn whose Write takes its time.
func TestTLSAlertBehindClose(t *testing.T) {
	ours, peer := tcpPair(t)
	release := make(chan struct{})
	conn := &oddConn{Conn: ours, write: func(p []byte) (int, error) {
		<-release
		return ours.Write(p)
	}}
	r := newRecorder()
	done := make(chan error, 1)
	opts := serverTLS()
	opts.Config.MinVersion = tls.VersionTLS13
	r.onMade = func(tr strand.Transport) {
		tr.Write([]byte("in clear"))
		require.NoError(t, strand.StartTLS(tr, opts, func(err error) { done <- err }))
		tr.Write([]byte("early"))
		tr.Close()
	}
	tr := attach(t, conn, r, nil)
	held := tr.WriteBufferSize()
	mustSend(t, peer, string(oldHello(t)))
	require.Eventually(t, func() bool { return tr.WriteBufferSize() != held }, patience, time.Millisecond, "no callback tells")
	close(release)
	require.Equal(t, "in clear\x15\x03\x01\x00\x02\x02\x46", string(readAll(t, peer)), "protocol_version")
	require.ErrorContains(t, await(t, "done", done), "unsupported versions")
	require.ErrorContains(t, r.awaitLost(t), "unsupported versions", "early is lost")
}

// TL-08 to TL-16, TL-29: how TLS inside TLS ends. ConnectionLost comes once, last,
// and says what the inner session has to say.
func TestTLSInsideTLSEndings(t *testing.T) {
	fin := func(t testing.TB, n *nested) {
		require.NoError(t, n.peer.(interface{ CloseWrite() error }).CloseWrite())
	}
	gone := func(t testing.TB, n *nested) { reset(t, n.peer) }
	inner := func(t testing.TB, n *nested) { require.NoError(t, n.inner.CloseWrite()) }
	outer := func(t testing.TB, n *nested) { require.NoError(t, n.outer.CloseWrite()) }
	closes := func(t testing.TB, n *nested) { n.tr.Close() }
	aborts := func(t testing.TB, n *nested) { n.tr.Abort() }
	eof := func(t testing.TB, n *nested) { n.r.awaitCall(t, "EOFReceived") }
	heard := func(t testing.TB, n *nested) { // our goodbyes: what comes later cannot overtake them
		require.Empty(t, readAll(t, n.inner))
		require.Empty(t, readAll(t, n.outer))
	}
	type steps = []func(testing.TB, *nested)
	for _, tt := range []struct {
		name         string
		does         steps
		want, strict string
	}{
		{"both goodbyes", steps{inner, outer}, "nil", "nil"},
		{"only the outer goodbye", steps{outer}, "nil", "unexpected EOF"},
		{"no goodbye", steps{fin}, "nil", "unexpected EOF"},
		{"the inner goodbye, the end", steps{inner, fin}, "nil", "nil"},
		{"the inner goodbye, a reset", steps{inner, heard, gone}, "nil", "nil"},
		{"the inner goodbye, no more", steps{inner, heard}, "shutdown", "shutdown"},
		{"the inner goodbye, Abort", steps{inner, eof, aborts}, "nil", "nil"},
		{"a reset", steps{gone}, "ECONNRESET", "ECONNRESET"},
		{"Abort", steps{aborts}, "nil", "nil"},
		{"Close, both goodbyes", steps{closes, heard, inner, outer}, "nil", "nil"},
		{"Close, the outer goodbye", steps{closes, outer}, "nil", "nil"},
		{"Close, the end", steps{closes, fin}, "nil", "nil"},
		{"Close, a reset", steps{closes, heard, gone}, "nil", "nil"},
		{"Close, the inner goodbye, a reset", steps{closes, heard, inner, gone}, "nil", "nil"},
		{"Close, no answer", steps{closes}, "shutdown", "shutdown"},
		{"Close, only the inner goodbye", steps{closes, inner}, "shutdown", "shutdown"},
		{"Close, Abort", steps{closes, heard, aborts}, "nil", "nil"},
	} {
		for strict, want := range map[bool]string{false: tt.want, true: tt.strict} {
			for _, k := range []kind{kinds[0], kinds[2]} { // not the one that has no reset
				if strict && want == tt.want && k.name != "tcp" {
					continue // StrictEOF is to have no say, once
				}
				t.Run(tt.name+", "+k.name, func(t *testing.T) {
					n := nest(t, k, quietTLS(func(o *strand.TLSOptions) {
						o.StrictEOF = strict
						if want == "shutdown" {
							o.ShutdownTimeout = 10 * time.Millisecond
						}
					}))
					for _, step := range tt.does {
						step(t, n)
					}
					err := n.r.awaitLost(t)
					n.r.mu.Lock()
					require.Empty(t, n.r.broken, "the laws")
					n.r.mu.Unlock()
					var timeout *strand.TimeoutError
					if want == "shutdown" {
						require.ErrorAs(t, err, &timeout)
						require.Equal(t, "shutdown", timeout.Op)
					} else {
						require.Equal(t, want, errName(err))
					}
				})
			}
		}
	}
}

// TS-04, TL-29: why the inner handshake failed is told to both ends, and once.
func TestTLSInsideTLSHandshakeFails(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, outer := connectedTLS(t, k, r, &strand.AttachOptions{TLS: quietTLS(nil)})
		opts := serverTLS()
		opts.Config.MinVersion = tls.VersionTLS13
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, opts, func(err error) { done <- err }))
		client := clientTLS()
		client.Config.ServerName = client.ServerName
		client.Config.MaxVersion = tls.VersionTLS12
		require.ErrorContains(t, tls.Client(outer, client.Config).Handshake(), "remote error: tls: protocol version")
		err := await(t, "done", done)
		require.ErrorContains(t, err, "unsupported versions")
		require.Equal(t, err, r.awaitLost(t))
		require.Len(t, r.trace(), 2)
	})
}

// TL-08, TL-29: Close during the inner handshake, with nothing that waits for it, is
// the end of the outer session in good order: what was written to that, then the
// goodbye, whatever the peer makes of the handshake.
func TestTLSInsideTLSCloseDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, opts := range []*strand.TLSOptions{serverTLS(), clientTLS()} {
			opts.ServerSide = len(opts.Config.Certificates) > 0
			r := newRecorder()
			tr, outer := connectedTLS(t, k, r, nil)
			sent := randomBytes(2_000_000)
			tr.Write(sent)
			done := make(chan error, 1)
			require.NoError(t, strand.StartTLS(tr, opts, func(err error) { done <- err }))
			tr.Close()
			got, err := io.ReadAll(outer)
			require.NoError(t, err, "with a goodbye")
			requireSame(t, sent, got[:len(sent)], "what was accepted")
			select {
			case err := <-done:
				t.Fatalf("done, %v, before the peer has said goodbye", err)
			default:
			}
			require.NoError(t, outer.Close())
			require.ErrorIs(t, await(t, "done", done), net.ErrClosed)
			require.NoError(t, r.awaitLost(t))
			require.Equal(t, "ConnectionLost nil", r.trace()[len(r.trace())-1])
		}
	})
}

// The same while the handshake goes on: it comes to its end, or it does not.
func TestTLSInsideTLSCloseAgainstHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for i := range rounds / 100 {
			r, done := upgrader(serverTLS())
			tr, outer := connectedTLS(t, k, r, nil)
			_, err := outer.Write([]byte("STARTTLS"))
			require.NoError(t, err)
			require.Equal(t, "OK", string(readN(t, outer, 2)))
			go func() {
				inner := clientTLSConn(outer)
				if inner.Handshake() == nil {
					io.Copy(io.Discard, inner)
					inner.Close()
				}
				io.Copy(io.Discard, outer)
				outer.Close()
			}()
			for range i { // Close comes now before the handshake, now after
				runtime.Gosched()
			}
			tr.Close()
			if err := await(t, "done", done); err != nil {
				require.ErrorIs(t, err, net.ErrClosed)
			}
			require.NoError(t, r.awaitLost(t))
		}
	})
}

// The error of a handshake outlives the descriptor: nobody reads what has its number
// by then through the Conn that crypto/tls puts into some.
func TestTLSHandshakeErrorKeepsNoConn(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, done := upgrader(serverTLS())
		_, outer := connectedTLS(t, k, r, nil)
		_, err := outer.Write([]byte("STARTTLS"))
		require.NoError(t, err)
		require.Equal(t, "OK", string(readN(t, outer, 2)))
		_, err = outer.Write([]byte("this is not TLS"))
		require.NoError(t, err)
		var header tls.RecordHeaderError
		require.ErrorAs(t, await(t, "done", done), &header)
		require.Contains(t, header.Msg, "does not look like a TLS handshake")
		require.Equal(t, "this ", string(header.RecordHeader[:]))
		require.Nil(t, header.Conn)
	})
}

// errPassing is an error that says that it will pass.
type errPassing struct{}

func (errPassing) Error() string   { return "for now" }
func (errPassing) Timeout() bool   { return false }
func (errPassing) Temporary() bool { return true }

// CL-07: a conn that fails once is not tried again, whatever its error says: part
// of a record may be lost. One that is only slow, or odd, does no harm.
func TestTLSOverFaultyConns(t *testing.T) {
	fails := func(err error) func(net.Conn, []byte) (int, error) {
		return func(c net.Conn, p []byte) (int, error) { n, _ := c.Write(p[:1]); return n, err }
	}
	short := func(c net.Conn, p []byte) (int, error) { return c.Write(p[:1]) }
	for _, tt := range []struct {
		name  string
		write func(net.Conn, []byte) (int, error) // nil: it waits until Close
		want  error                               // of Attach, and of the end
	}{
		{"temporary", fails(errPassing{}), errPassing{}},
		{"permanent", fails(syscall.EPIPE), syscall.EPIPE},
		{"short", short, nil},
		{"stuck", nil, os.ErrDeadlineExceeded},
	} {
		for _, during := range []string{"handshake", "open", "Close"} {
			t.Run(tt.name+", "+during, func(t *testing.T) {
				ours, peer := tcpPair(t)
				var faulty atomic.Bool
				closed := make(chan struct{})
				var once sync.Once
				conn := &oddConn{Conn: ours}
				conn.write = func(p []byte) (int, error) {
					switch {
					case !faulty.Swap(false):
						return ours.Write(p)
					case tt.write != nil:
						return tt.write(ours, p)
					}
					<-closed
					return 0, net.ErrClosed
				}
				conn.close = func() error { once.Do(func() { close(closed) }); return errors.New("close failed") }
				opts := &strand.AttachOptions{TLS: quietTLS(nil)}
				if tt.write == nil {
					opts.CloseTimeout, opts.WriteTimeout = 20*time.Millisecond, 20*time.Millisecond
					if during == "handshake" {
						opts.TLS.HandshakeTimeout = 20 * time.Millisecond
					}
				}
				r := newRecorder()
				if during == "handshake" {
					faulty.Store(true)
					client := clientTLSConn(peer)
					go client.Handshake()
					tr, _, err := strand.Attach(context.Background(), conn, func() *recorder { return r }, opts)
					if tt.want != nil {
						require.ErrorIs(t, err, tt.want)
						require.Empty(t, r.trace(), "TL-02")
						return
					}
					require.NoError(t, err)
					tr.Abort()
					require.NoError(t, r.awaitLost(t))
					return
				}
				tr, client := attachSecure(t, conn, peer, r, opts)
				faulty.Store(true)
				_, err := tr.Write([]byte("all"))
				require.NoError(t, err)
				if during == "Close" || tt.want == nil {
					tr.Close()
				}
				if tt.want == nil {
					require.Equal(t, "all", string(readAll(t, client)))
					require.NoError(t, client.Close())
				}
				require.ErrorIs(t, r.awaitLost(t), tt.want)
				require.Len(t, r.trace(), 2)
				require.Zero(t, tr.WriteBufferSize())
			})
		}
	}
}

// Bytes that a Read returns together with an error count first, at any time.
func TestTLSReadWithError(t *testing.T) {
	for _, during := range []string{"handshake", "open", "Close"} {
		t.Run(during, func(t *testing.T) {
			ours, peer := tcpPair(t)
			var faulty atomic.Bool
			conn := &oddConn{Conn: ours}
			conn.read = func(p []byte) (int, error) {
				n, err := ours.Read(p)
				if n > 0 && faulty.Load() {
					err = syscall.EIO
				}
				return n, err
			}
			r := newRecorder()
			opts := &strand.AttachOptions{TLS: quietTLS(nil)}
			if during == "handshake" {
				faulty.Store(true)
				go clientTLSConn(peer).Handshake()
				_, _, err := strand.Attach(context.Background(), conn, func() *recorder { return r }, opts)
				require.ErrorIs(t, err, syscall.EIO)
				return
			}
			tr, client := attachSecure(t, conn, peer, r, opts)
			faulty.Store(true)
			if during == "Close" {
				tr.Close()
				mustSend(t, client, "too late")
				require.NoError(t, r.awaitLost(t), "nothing is lost")
				return
			}
			mustSend(t, client, "hello")
			require.ErrorIs(t, r.awaitLost(t), syscall.EIO)
			require.Equal(t, "hello", string(r.received()))
		})
	}
}
