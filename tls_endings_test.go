package strand_test

import (
	"crypto/tls"
	"net"
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
		last := randomBytes(8 << 20) // more than the network holds
		n.r.onEOF = func() bool { n.tr.Write(last); return false }
		require.NoError(t, n.inner.CloseWrite())
		n.r.awaitCall(t, "EOFReceived")
		require.NoError(t, n.outer.CloseWrite())
		requireSame(t, last, readAll(t, n.inner), "what was accepted")
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
