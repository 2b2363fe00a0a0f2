package strand_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// upgrader is a server that upgrades when it is told "STARTTLS", having said
// "OK" in clear, and echoes everything else. What StartTLS says ends in done.
func upgrader(opts *strand.TLSOptions) (r *recorder, done chan error) {
	r, done = newRecorder(), make(chan error, 1)
	r.onData = func(data []byte) {
		tr := r.transport()
		if string(data) != "STARTTLS" {
			tr.Write(data)
			return
		}
		tr.Write([]byte("OK"))
		if err := strand.StartTLS(tr, opts, func(err error) { done <- err }); err != nil {
			done <- err
		}
	}
	return r, done
}

// upgraded is a server of ours and crypto/tls as its client, both just behind
// the upgrade.
func upgraded(t testing.TB, k kind) (r *recorder, tr strand.Transport, client *tls.Conn) {
	t.Helper()
	r, done := upgrader(serverTLS())
	tr, peer := connected(t, k, r, nil)
	mustSend(t, peer, "STARTTLS")
	require.Equal(t, "OK", string(readN(t, peer, 2)))
	client = clientTLSConn(peer)
	require.NoError(t, client.Handshake())
	require.NoError(t, await(t, "done", done))
	return r, tr, client
}

func mustSend(t testing.TB, peer net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(peer, s)
	require.NoError(t, err)
}

// TS-01: the same transport goes on, encrypted, with no second ConnectionMade;
// TS-02: what was written before goes out in clear, and pending output order is
// kept: what is written after the call is encrypted, even before the handshake.
func TestStartTLSBothSides(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		server, client := newRecorder(), newRecorder()
		server.onData = func(data []byte) {
			tr := server.transport()
			if string(data) == "STARTTLS" {
				tr.Write([]byte("OK"))
				require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { tr.Write([]byte("hello")) }))
				tr.Write([]byte("early "))
				require.GreaterOrEqual(t, tr.WriteBufferSize(), len("early "), "counted")
				require.False(t, tr.CanWriteEOF())
				return
			}
			tr.Write(data)
		}
		attach(t, ours, server, nil)
		ct := attach(t, peer, client, nil)
		ct.Write([]byte("STARTTLS"))
		client.awaitData(t, 2)
		require.Nil(t, ct.ExtraInfo(strand.ExtraSSLObject))
		require.NoError(t, strand.StartTLSWait(context.Background(), ct, clientTLS()))
		require.NotNil(t, ct.ExtraInfo(strand.ExtraSSLObject))
		client.awaitData(t, 13)
		require.Equal(t, "OKearly hello", string(client.received()))
		ct.Write([]byte("secret"))
		client.awaitData(t, 19)
		ct.Close()
		require.NoError(t, client.awaitLost(t))
		require.NoError(t, server.awaitLost(t))
		client.wantCalls(t, "one ConnectionMade", "ConnectionMade", "DataReceived 19", "ConnectionLost nil")
		server.wantCalls(t, "one ConnectionMade", "ConnectionMade", "DataReceived 14", "EOFReceived", "ConnectionLost nil")
	})
}

// TS-02: output that is waiting when StartTLS is called goes out in clear, all
// of it, before the handshake; what follows is encrypted, and moves the marks.
func TestStartTLSBehindBacklog(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		n := fill(t, tr)
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { done <- err }))
		early := randomBytes(100_000)
		_, err := tr.Write(early[:50_000])
		require.NoError(t, err)
		_, err = tr.WriteLines(early[50_000:60_000], early[60_000:])
		require.NoError(t, err)
		require.GreaterOrEqual(t, tr.WriteBufferSize(), len(early))
		require.Equal(t, make([]byte, n), readN(t, peer, n), "in clear")
		client := clientTLSConn(peer)
		requireSame(t, early, readN(t, client, len(early)), "encrypted")
		require.NoError(t, await(t, "done", done))
		r.awaitCall(t, "ResumeWriting")
		require.Eventually(t, func() bool { return tr.WriteBufferSize() == 0 }, patience, time.Millisecond, "no callback tells")
	})
}

// The first attack: a command injected behind STARTTLS must not be taken for
// one that came encrypted. In one segment with it, it reaches the protocol
// before the upgrade; behind it, it breaks the handshake.
func TestStartTLSInjectedCommand(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, done := upgrader(serverTLS())
		_, peer := connected(t, k, r, nil)
		mustSend(t, peer, "STARTTLS")
		require.Equal(t, "OK", string(readN(t, peer, 2)))
		mustSend(t, peer, "MAIL FROM:<attacker>\r\n")
		require.ErrorContains(t, await(t, "done", done), "TLS")
		require.ErrorContains(t, r.awaitLost(t), "TLS", "TS-04")
		require.Equal(t, "STARTTLS", string(r.received()))
	})
}

// narrowReader is a BufferedProtocol with little memory, which upgrades at the
// letter S.
type narrowReader struct {
	strand.NopProtocol
	t    strand.Transport
	buf  [1]byte
	got  []byte
	done chan error
	lost error
}

func (p *narrowReader) ConnectionMade(t strand.Transport) { p.t = t }
func (p *narrowReader) ConnectionLost(err error)          { p.lost = err }
func (p *narrowReader) GetBuffer(int) []byte              { return p.buf[:] }
func (p *narrowReader) BufferUpdated(int) {
	p.got = append(p.got, p.buf[0])
	if p.buf[0] == 'S' {
		if err := strand.StartTLS(p.t, serverTLS(), func(err error) { p.done <- err }); err != nil {
			p.done <- err
		}
	}
}

// Plaintext that the library has received and nobody has seen fails the
// upgrade: ErrPlaintextPending.
func TestStartTLSPlaintextPending(t *testing.T) {
	ours, peer := portablePair(t)
	p := &narrowReader{done: make(chan error, 1)}
	tr, _, err := strand.Attach(context.Background(), ours, func() *narrowReader { return p }, nil)
	require.NoError(t, err)
	mustSend(t, peer, "aSinjected")
	require.ErrorIs(t, await(t, "done", p.done), strand.ErrPlaintextPending)
	await(t, "the end", tr.Done())
	require.ErrorIs(t, p.lost, strand.ErrPlaintextPending)
	require.Equal(t, "aS", string(p.got))
}

// upgradingGet is a BufferedProtocol that upgrades when it is asked for memory.
type upgradingGet struct {
	filling
	t    strand.Transport
	once bool
	done chan error
}

func (p *upgradingGet) ConnectionMade(t strand.Transport) { p.t = t }

func (p *upgradingGet) GetBuffer(hint int) []byte {
	if !p.once {
		p.once = true
		if err := strand.StartTLS(p.t, serverTLS(), func(err error) { p.done <- err }); err != nil {
			p.done <- err
		}
	}
	return p.filling.GetBuffer(hint)
}

// From the moment of the call nothing is delivered in clear, if that moment is
// inside GetBuffer too.
func TestStartTLSInGetBuffer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		p := &upgradingGet{filling: filling{buf: make([]byte, 10)}, done: make(chan error, 1)}
		tr, _, err := strand.Attach(context.Background(), ours, func() *upgradingGet { return p }, nil)
		require.NoError(t, err)
		if k.name == "portable" { // it receives before it asks for memory
			mustSend(t, peer, "plaintext")
			require.ErrorIs(t, await(t, "done", p.done), strand.ErrPlaintextPending)
			await(t, "the end", tr.Done())
			require.Empty(t, p.got)
			return
		}
		client := clientTLSConn(peer)
		mustSend(t, client, "secret")
		require.NoError(t, client.Close())
		require.NoError(t, await(t, "done", p.done))
		await(t, "the end", tr.Done())
		require.NoError(t, p.lost)
		require.Equal(t, "secret", string(p.got))
	})
}

// readHook runs a func in the middle of a Read that has bytes already.
type readHook struct {
	net.Conn
	hook func()
}

func (c *readHook) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.hook != nil {
		hook := c.hook
		c.hook = nil
		hook()
	}
	return n, err
}

// The same when StartTLS comes from elsewhere, just while something arrives.
func TestStartTLSDuringRead(t *testing.T) {
	ours, peer := tcpPair(t)
	r := newRecorder()
	done := make(chan error, 1)
	conn := &readHook{Conn: ours}
	conn.hook = func() {
		require.NoError(t, strand.StartTLS(r.transport(), serverTLS(), func(err error) { done <- err }))
	}
	attach(t, conn, r, nil)
	mustSend(t, peer, "injected")
	require.ErrorIs(t, await(t, "done", done), strand.ErrPlaintextPending)
	require.ErrorIs(t, r.awaitLost(t), strand.ErrPlaintextPending)
	require.Empty(t, r.received())
}

// TS-02: what arrives just then is TLS's if it is the beginning of a ClientHello,
// or the rest of one: a client does not wait for the server to call StartTLS.
func TestStartTLSDuringReadOfTheClientHello(t *testing.T) {
	for _, seen := range []int{0, 1, 100} { // bytes that the protocol was given
		ours, peer := tcpPair(t)
		r := newRecorder()
		done := make(chan error, 1)
		conn := &readHook{Conn: ours}
		begin := func() {
			opts := serverTLS()
			opts.Prefix = r.received()
			require.NoError(t, strand.StartTLS(r.transport(), opts, func(err error) { done <- err }))
		}
		if seen == 0 {
			conn.hook = begin
		}
		attach(t, conn, r, nil)
		client := clientTLSConn(&splitFirst{Conn: peer, at: seen, between: func() {
			r.awaitData(t, seen)
			conn.hook = begin
		}})
		require.NoError(t, client.HandshakeContext(t.Context()))
		require.NoError(t, await(t, "done", done))
		mustSend(t, client, "secret")
		r.awaitData(t, seen+len("secret"))
		require.Equal(t, "secret", string(r.received()[seen:]))
	}
}

// splitFirst sends the first thing that is written in two pieces.
type splitFirst struct {
	net.Conn
	at      int
	between func()
}

func (c *splitFirst) Write(p []byte) (int, error) {
	at := c.at
	c.at = 0
	if at == 0 {
		return c.Conn.Write(p)
	}
	if n, err := c.Conn.Write(p[:at]); err != nil {
		return n, err
	}
	c.between()
	n, err := c.Conn.Write(p[at:])
	return at + n, err
}

// The race for real: whatever the moment of the call, in turn with the
// callbacks, nothing that was sent in clear is delivered after it.
func TestStartTLSAgainstTheReader(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for range 30 {
			r := newRecorder()
			tr, peer := connected(t, k, r, nil)
			go io.WriteString(peer, "plaintext")
			go peer.(interface{ CloseWrite() error }).CloseWrite()
			done := make(chan error, 1)
			before := -1
			posted := tr.CallSoon(func() {
				if err := strand.StartTLS(tr, serverTLS(), func(err error) { done <- err }); err != nil {
					done <- err
				}
				before = len(r.received())
			})
			if !posted { // the peer's end was faster
				continue
			}
			require.Error(t, await(t, "done", done), "that is no ClientHello")
			r.awaitLost(t)
			require.Len(t, r.received(), before)
		}
	})
}

// The second attack, against a client: an answer injected behind the server's
// consent arrives in clear, and breaks the handshake.
func TestStartTLSInjectedResponse(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		mustSend(t, peer, "OK")
		r.awaitData(t, 2)
		mustDone := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) { mustDone <- err }))
		readN(t, peer, 5) // the ClientHello: no plaintext is read any more
		mustSend(t, peer, "250 you are logged in\r\n")
		require.ErrorContains(t, await(t, "done", mustDone), "TLS")
		require.Error(t, r.awaitLost(t))
		require.Equal(t, "OK", string(r.received()))
	})
}

// The fourth attack, downgrade by failure: after a failed upgrade nothing more
// goes over the connection in clear, even if the program goes on writing.
// TS-04, TS-05: done and ConnectionLost get the error, once.
func TestStartTLSFailureIsTheEnd(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) {
			tr.Write([]byte("PASSWORD in done"))
			done <- err
		}))
		tr.Write([]byte("PASSWORD while it runs"))
		got := make(chan []byte, 1)
		go func() {
			io.CopyN(io.Discard, peer, 5)
			peer.Write([]byte("454 TLS not available\r\n"))
			b, _ := io.ReadAll(peer)
			got <- b
		}()
		err := await(t, "done", done)
		require.ErrorContains(t, err, "TLS handshake")
		_, werr := tr.Write([]byte("PASSWORD afterwards"))
		require.ErrorIs(t, werr, net.ErrClosed)
		require.Equal(t, err, r.awaitLost(t))
		require.NotContains(t, string(await(t, "the peer's end", got)), "PASSWORD")
		r.wantCalls(t, "one ConnectionLost", "ConnectionMade", r.trace()[1])
	})
}

// TS-04: the peer leaves during the handshake.
func TestStartTLSPeerLeaves(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, done := upgrader(serverTLS())
		_, peer := connected(t, k, r, nil)
		mustSend(t, peer, "STARTTLS")
		require.Equal(t, "OK", string(readN(t, peer, 2)))
		peer.Close()
		require.Error(t, await(t, "done", done))
		require.Error(t, r.awaitLost(t))
		r.wantCalls(t, "no EOFReceived", "ConnectionMade", "DataReceived 8", r.trace()[2])
	})
}

// TS-05: the handshake's time limit, which counts from the call: a callback
// that blocks does not stop it. ConnectionLost comes in any case.
func TestStartTLSTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		go io.Copy(io.Discard, peer)
		r := newRecorder()
		tr, _, err := strand.Attach(context.Background(), ours, func() *recorder { return r }, nil)
		require.NoError(t, err)
		start := time.Now()
		opts := clientTLS()
		opts.HandshakeTimeout = time.Second
		err = strand.StartTLSWait(context.Background(), tr, opts)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		<-tr.Done()
		require.Equal(t, err, r.lost)
		r.wantCalls(t, "TS-05", "ConnectionMade", "ConnectionLost timeout")
	})
}

// TS-05: cancelling the wait ends the connection, with the context's cause.
func TestStartTLSCancel(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("changed my mind")
		go func() {
			peer.Read(make([]byte, 1))
			cancel(why)
		}()
		require.Equal(t, why, strand.StartTLSWait(ctx, tr, clientTLS()))
		require.Equal(t, why, r.awaitLost(t))
		r.wantCalls(t, "TS-05", "ConnectionMade", "ConnectionLost changed my mind")
	})
}

// lateContext has ended, and says why only after something has happened.
type lateContext struct {
	context.Context
	before func()
}

func (c lateContext) Value(key any) any {
	c.before()
	return c.Context.Value(key)
}

// TS-05: a handshake that is over before the cancelled wait gives it up has come
// to a good end, and the connection goes on.
func TestStartTLSCancelledTooLate(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		cancelled, cancel := context.WithCancel(context.Background())
		client := clientTLSConn(peer)
		ctx := lateContext{cancelled, sync.OnceFunc(func() {
			require.NoError(t, client.Handshake())
			send(t, client, "hello")
			r.awaitData(t, 5)
		})}
		cancel()
		require.NoError(t, strand.StartTLSWait(ctx, tr, serverTLS()))
		require.False(t, tr.IsClosing())
	})
}

// done comes even if the connection ends before the handshake begins: a
// StartTLSWait would hang otherwise.
func TestStartTLSDoneAlwaysComes(t *testing.T) {
	ends := map[string]func(strand.Transport){
		"Abort": strand.Transport.Abort,
		"Close": func(tr strand.Transport) { tr.Close() },
		"panic": func(strand.Transport) { panic("boom") },
	}
	for name, end := range ends {
		for _, where := range []string{"callback", "outside"} {
			if name == "panic" && where == "outside" {
				continue
			}
			t.Run(name+" "+where, func(t *testing.T) {
				eachKind(t, func(t *testing.T, k kind) {
					done := make(chan error, 1)
					r := newRecorder()
					both := func(tr strand.Transport) {
						require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { done <- err }))
						end(tr)
					}
					if where == "callback" {
						r.onData = func([]byte) { both(r.transport()) }
					}
					tr, peer := connected(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
					if where == "callback" {
						mustSend(t, peer, "x")
					} else {
						both(tr)
					}
					err := await(t, "done", done)
					r.awaitLost(t)
					if name == "panic" {
						var panicked *strand.PanicError
						require.ErrorAs(t, err, &panicked)
					} else {
						require.ErrorIs(t, err, net.ErrClosed)
					}
				})
			})
		}
	}
}

// done runs in turn, and may do everything: write, close, panic, call
// runtime.Goexit, upgrade again.
func TestStartTLSDone(t *testing.T) {
	for name, do := range map[string]func(strand.Transport){
		"write":   func(tr strand.Transport) { tr.Write([]byte("hello")) },
		"close":   func(tr strand.Transport) { tr.Write([]byte("hello")); tr.Close() },
		"panic":   func(tr strand.Transport) { tr.Write([]byte("hello")); panic("boom") },
		"goexit":  func(tr strand.Transport) { tr.Write([]byte("hello")); goexit() },
		"upgrade": func(tr strand.Transport) { tr.Write([]byte("hello")); strand.StartTLS(tr, serverTLS(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				r.onMade = func(tr strand.Transport) {
					require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) {
						defer r.enter("done")()
						if err == nil {
							do(tr)
						}
					}))
				}
				ours, peer := k.pair(t)
				tr := attach(t, ours, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
				client := clientTLSConn(peer)
				if name != "panic" && name != "goexit" { // there the end may overtake it
					require.Equal(t, "hello", string(readN(t, client, 5)))
				} else {
					io.Copy(io.Discard, client)
				}
				client.Close()
				peer.Close()
				r.awaitLost(t)
				require.Equal(t, []string{"ConnectionMade", "done"}, r.trace()[:2])
				require.True(t, tr.IsClosing())
				r.mu.Lock()
				defer r.mu.Unlock()
				require.Empty(t, r.broken)
			})
		})
	}
}

// Whatever the program does while a handshake runs, it does no harm.
func TestStartTLSCallsDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) { done <- err }))
		hello := readN(t, peer, 6) // the handshake runs
		for range 10 {
			tr.PauseReading()
			tr.ResumeReading()
		}
		tr.PauseReading()
		tr.Write([]byte("early"))
		require.Error(t, strand.StartTLS(tr, clientTLS(), nil), "a second one")
		require.NoError(t, tr.SetWriteBufferLimits(10, 5))
		r2 := newRecorder()
		r2.calls, r2.t = []string{"ConnectionMade"}, tr
		tr.SetProtocol(r2)
		require.True(t, tr.CallSoon(func() {}))
		require.ErrorIs(t, tr.WriteEOF(), errors.ErrUnsupported)
		server := serverTLSConn(&prefixed{Conn: peer, prefix: hello})
		require.Equal(t, "early", string(readN(t, server, 5)))
		require.NoError(t, await(t, "done", done))
		require.False(t, tr.IsReading(), "paused before, and so after")
		server.Write([]byte("hello"))
		tr.ResumeReading()
		r2.awaitData(t, 5)
		server.Close()
		require.NoError(t, r2.awaitLost(t))
		r.wantCalls(t, "TS-06: the new protocol has it", "ConnectionMade")
	})
}

// prefixed gives back bytes that were read already.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Close during the handshake: what was written meanwhile still goes out,
// encrypted, then the goodbye.
func TestStartTLSCloseDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) { done <- err }))
		hello := readN(t, peer, 6)
		early := randomBytes(100_000)
		tr.Write(early)
		tr.Close()
		require.True(t, tr.IsClosing())
		server := serverTLSConn(&prefixed{Conn: peer, prefix: hello})
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		requireSame(t, early, got, "what was accepted")
		server.Close()
		require.NoError(t, await(t, "done", done))
		require.NoError(t, r.awaitLost(t))
	})
}

// CL-01, CL-06: Close with nothing accepted that has to go out ends the handshake
// at once, also if a conn is still in the Write of what TLS has to say: the peer's
// leaving comes too late to be the cause.
func TestStartTLSCloseBesideTheWriter(t *testing.T) {
	ours, peer := tcpPair(t)
	closed := make(chan struct{})
	conn := &oddConn{Conn: ours}
	conn.write = func(p []byte) (int, error) {
		n, err := ours.Write(p)
		<-closed
		return n, err
	}
	conn.close = func() error { close(closed); return nil }
	r := newRecorder()
	tr := attach(t, conn, r, nil)
	done := make(chan error, 1)
	require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) { done <- err }))
	readN(t, peer, 6)
	require.NotZero(t, tr.WriteBufferSize(), "its Write has not returned")
	tr.Close()
	peer.Close()
	require.ErrorIs(t, await(t, "done", done), net.ErrClosed)
	require.NoError(t, r.awaitLost(t))
}

// Abort during the handshake ends it at once (TL-16).
func TestStartTLSAbortDuringHandshake(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		done := make(chan error, 1)
		require.NoError(t, strand.StartTLS(tr, clientTLS(), func(err error) { done <- err }))
		readN(t, peer, 6)
		tr.Abort()
		require.ErrorIs(t, await(t, "done", done), net.ErrClosed)
		require.NoError(t, r.awaitLost(t))
	})
}

// TS-03: errors at once, which leave the transport as it was.
func TestStartTLSErrors(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		tr, peer := connected(t, k, r, nil)
		never := func(error) { t.Error("done was called") }
		require.ErrorContains(t, strand.StartTLS(tr, nil, never), "ServerName")
		require.ErrorContains(t, strand.StartTLS(tr, &strand.TLSOptions{ServerSide: true}, never), "certificate")
		bad := clientTLS()
		bad.HandshakeTimeout = -1
		require.ErrorContains(t, strand.StartTLSWait(context.Background(), tr, bad), "timeouts")
		require.ErrorIs(t, strand.StartTLS(nil, clientTLS(), never), errors.ErrUnsupported)
		tr.Write([]byte("in clear"))
		require.Equal(t, "in clear", string(readN(t, peer, 8)))
		mustSend(t, peer, "too")
		r.awaitData(t, 3)
		tr.Close()
		require.ErrorIs(t, strand.StartTLS(tr, clientTLS(), never), net.ErrClosed)
		require.NoError(t, r.awaitLost(t))
		require.ErrorIs(t, strand.StartTLSWait(context.Background(), tr, clientTLS()), net.ErrClosed)
	})
	t.Run("after WriteEOF", func(t *testing.T) {
		tr, _ := connected(t, kinds[0], newRecorder(), nil)
		require.NoError(t, tr.WriteEOF())
		require.ErrorIs(t, strand.StartTLS(tr, clientTLS(), nil), strand.ErrWriteAfterEOF)
	})
	t.Run("pipe", func(t *testing.T) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer w.Close()
		tr, _, err := strand.ConnectReadPipe(context.Background(), r, newRecorder, nil)
		require.NoError(t, err)
		require.ErrorIs(t, strand.StartTLS(tr, clientTLS(), nil), errors.ErrUnsupported)
		tr.Abort()
		await(t, "the end", tr.Done())
	})
}

// Prefix is for TLS bytes that the protocol was given: a PROXY header and the
// ClientHello in one segment.
func TestStartTLSPrefix(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
		r := newRecorder()
		done := make(chan error, 1)
		r.onData = func(data []byte) {
			tr := r.transport()
			if tr.ExtraInfo(strand.ExtraSSLObject) != nil {
				tr.Write(data)
				return
			}
			end := bytes.Index(data, []byte("\r\n")) + 2
			opts := serverTLS()
			opts.Prefix = data[end:]
			require.NotEmpty(t, opts.Prefix)
			require.NoError(t, strand.StartTLS(tr, opts, func(err error) { done <- err }))
			clear(data) // it was copied
		}
		_, peer := connected(t, k, r, nil)
		tap := &headed{Conn: peer, header: []byte(header)}
		client := clientTLSConn(tap)
		client.Write([]byte("hello"))
		require.Equal(t, "hello", string(readN(t, client, 5)))
		require.NoError(t, await(t, "done", done))
		client.Close()
		require.NoError(t, r.awaitLost(t))
	})
}

// headed sends a header in one piece with the first write.
type headed struct {
	net.Conn
	header []byte
}

func (c *headed) Write(p []byte) (int, error) {
	if c.header != nil {
		p = append(c.header, p...)
		c.header = nil
		_, err := c.Conn.Write(p)
		return len(p), err
	}
	return c.Conn.Write(p)
}

// Attach takes a Prefix too.
func TestAttachPrefix(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		client := clientTLSConn(peer)
		go client.Write([]byte("hello"))
		opts := serverTLS()
		opts.Prefix = readN(t, ours, 20)
		require.NoError(t, ours.SetReadDeadline(time.Time{}))
		r := newRecorder()
		attach(t, ours, r, &strand.AttachOptions{TLS: opts})
		r.awaitData(t, 5)
	})
}

// TL-29: TLS inside TLS, on both sides, by StartTLS on a TLS transport; both
// sessions end in order.
func TestStartTLSInsideTLS(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, tr, outer := upgraded(t, k)
		mustSend(t, outer, "STARTTLS")
		require.Equal(t, "OK", string(readN(t, outer, 2)))
		inner := clientTLSConn(outer)
		sent := randomBytes(100_000)
		go inner.Write(sent)
		requireSame(t, sent, readN(t, inner, len(sent)), "the echo")
		require.NoError(t, inner.CloseWrite())
		_, err := inner.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "the inner goodbye")
		_, err = outer.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "the outer goodbye")
		require.NoError(t, outer.CloseWrite())
		require.NoError(t, r.awaitLost(t))
		require.NotNil(t, tr.ExtraInfo(strand.ExtraCipher))
	})
}

// TL-29: Close says both goodbyes and waits for both.
func TestTLSInsideTLSClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r, tr, outer := upgraded(t, k)
		mustSend(t, outer, "STARTTLS")
		require.Equal(t, "OK", string(readN(t, outer, 2)))
		inner := clientTLSConn(outer)
		require.NoError(t, inner.Handshake())
		tr.Write([]byte("last words"))
		tr.Close()
		got, err := io.ReadAll(inner)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))
		require.NoError(t, inner.CloseWrite())
		require.NoError(t, outer.CloseWrite())
		require.NoError(t, r.awaitLost(t))
	})
}

// StrictEOF sees an inner session that is cut off, however the outer one ends.
func TestTLSInsideTLSTruncated(t *testing.T) {
	for _, how := range []string{"outer goodbye", "FIN", "FIN in a record"} {
		t.Run(how, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				opts := serverTLS()
				opts.StrictEOF = true
				r, done := upgrader(opts)
				_, peer := connected(t, k, r, nil)
				client := peer
				for range 2 {
					mustSend(t, client, "STARTTLS")
					require.Equal(t, "OK", string(readN(t, client, 2)))
					c := clientTLSConn(client)
					require.NoError(t, c.Handshake())
					require.NoError(t, await(t, "done", done))
					client = c
				}
				switch how {
				case "outer goodbye":
					require.NoError(t, client.(*tls.Conn).NetConn().(*tls.Conn).CloseWrite())
				case "FIN in a record":
					mustSend(t, peer, "\x17\x03\x03\x00\x64abc")
				}
				require.NoError(t, peer.(interface{ CloseWrite() error }).CloseWrite())
				require.Equal(t, io.ErrUnexpectedEOF, r.awaitLost(t))
			})
		})
	}
}

// TS-06: the protocol may change with the upgrade, also between the two kinds.
func TestStartTLSSetProtocol(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		p := &filling{buf: make([]byte, 100)}
		r.onData = func(data []byte) {
			tr := r.transport()
			tr.Write([]byte("OK"))
			require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { tr.SetProtocol(p) }))
		}
		tr, peer := connected(t, k, r, nil)
		mustSend(t, peer, "S")
		require.Equal(t, "OK", string(readN(t, peer, 2)))
		client := clientTLSConn(peer)
		mustSend(t, client, strings.Repeat("x", 1000))
		require.NoError(t, client.Close())
		await(t, "the end", tr.Done())
		require.NoError(t, p.lost)
		require.Equal(t, strings.Repeat("x", 1000), string(p.got))
		r.wantCalls(t, "the old protocol is out of it", "ConnectionMade", "DataReceived 1")
	})
}
