package strand_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// A forger is the client of a TLS 1.3 session that makes its records itself,
// from the secrets that crypto/tls logs: those that crypto/tls would not send.
type forger struct {
	t      testing.TB
	conn   net.Conn
	secret []byte
	seq    uint64
}

// The content types of records.
const (
	alertRecord     = 21
	handshakeRecord = 22
	dataRecord      = 23
)

var (
	closeNotify = []byte{1, 0}
	keyUpdate   = []byte{24, 0, 0, 1, 1} // the answer is wanted
)

// forgery makes ours a TLS server of r and returns a forger, and crypto/tls to
// read with.
func forgery(t testing.TB, k kind, r *recorder, opts *strand.AttachOptions) (strand.Transport, *forger, *tls.Conn) {
	t.Helper()
	ours, peer := k.pair(t)
	var log bytes.Buffer
	o := clientTLS()
	o.Config.ServerName = o.ServerName
	o.Config.KeyLogWriter = &log
	client := tls.Client(peer, o.Config)
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if opts == nil {
		opts = new(strand.AttachOptions)
	}
	opts.TLS = serverTLS()
	tr := attach(t, ours, r, opts)
	require.NoError(t, await(t, "the handshake", shaken))
	if client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("without AES in hardware crypto/tls picks a suite that the forger does not know")
	}
	f := &forger{t: t, conn: peer}
	for line := range strings.Lines(log.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			var err error
			f.secret, err = hex.DecodeString(words[2])
			require.NoError(t, err)
		}
	}
	return tr, f, client
}

// expand is RFC 8446's HKDF-Expand-Label without a context.
func (f *forger) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label+"\x00"...)
	key, err := hkdf.Expand(sha256.New, f.secret, string(info), n)
	require.NoError(f.t, err)
	return key
}

// record makes the next record. After a key update it has the next key.
func (f *forger) record(contentType byte, body []byte) []byte {
	block, err := aes.NewCipher(f.expand("key", 16))
	require.NoError(f.t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(f.t, err)
	nonce := f.expand("iv", 12)
	seq := binary.BigEndian.AppendUint64(nil, f.seq)
	for i, b := range seq {
		nonce[4+i] ^= b
	}
	f.seq++
	inner := append(append([]byte(nil), body...), contentType)
	n := len(inner) + aead.Overhead()
	header := []byte{dataRecord, 3, 3, byte(n >> 8), byte(n)}
	sealed := aead.Seal(header, nonce, inner, header)
	if contentType == handshakeRecord && body[0] == 24 {
		f.secret, f.seq = f.expand("traffic upd", len(f.secret)), 0
	}
	return sealed
}

func (f *forger) send(records ...[]byte) {
	f.t.Helper()
	_, err := f.conn.Write(bytes.Join(records, nil))
	require.NoError(f.t, err)
}

// The peer changes its key and asks for ours to be changed, between data.
func TestTLSKeyUpdate(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onData = func(data []byte) { r.transport().Write(data) }
		_, f, client := forgery(t, k, r, nil)
		for i := range 100 {
			f.send(f.record(dataRecord, []byte("before ")), f.record(handshakeRecord, keyUpdate), f.record(dataRecord, []byte("after")))
			require.Equal(t, "before after", string(readN(t, client, 12)), "round %d", i)
		}
		f.send(f.record(alertRecord, closeNotify))
		require.NoError(t, r.awaitLost(t))
	})
}

// An answer that meets a peer that is gone takes away no data that are there, and
// TL-15: what it met is told, and not taken for an end of file.
func TestTLSKeyUpdateAndGone(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		if k.name == "unix" {
			t.Skip("has no reset")
		}
		r := newRecorder()
		gone := make(chan struct{})
		r.onData = func([]byte) { <-gone }
		_, f, _ := forgery(t, k, r, nil)
		f.send(f.record(dataRecord, []byte("before ")))
		r.awaitData(t, 7)
		f.send(f.record(handshakeRecord, keyUpdate), f.record(dataRecord, []byte("after")))
		reset(t, f.conn)
		close(gone)
		err := r.awaitLost(t)
		require.Equal(t, "before after", string(r.received()))
		if k.name == "portable" && err == nil {
			return // the system told the writer of the reset, and the reader was quicker to tell of the end
		}
		require.Contains(t, []string{"ECONNRESET", "EPIPE"}, errName(err))
		require.NotContains(t, r.trace(), "EOFReceived")
	})
}

// A peer that asks for new keys for ever and reads none of the answers is
// thrown out before they fill the memory.
func TestTLSKeyUpdateFlood(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		if k.name == "unix" {
			t.Skip("as tcp, and slow")
		}
		r := newRecorder()
		tr, f, _ := forgery(t, k, r, nil)
		fill(t, tr)
		if k.name == "portable" { // its writer has to be stuck
			for range 100 {
				tr.Write(make([]byte, 100_000))
			}
		}
		before := tr.WriteBufferSize()
		for round := 0; !tr.IsClosing(); round++ {
			require.Less(t, round, 200_000, "nobody stops the flood") // the kernel holds many
			// A byte of data, or crypto/tls itself takes offence.
			if _, err := f.conn.Write(append(f.record(dataRecord, []byte("x")), f.record(handshakeRecord, keyUpdate)...)); err != nil {
				break
			}
			require.Less(t, tr.WriteBufferSize(), before+100_000)
		}
		require.ErrorContains(t, r.awaitLost(t), "does not read")
	})
}

// A peer that reads the answers may ask as often as it likes, also if there is
// always something else to send: here each Write of the conn returns only when
// there is more.
func TestTLSKeyUpdatesBesideOutput(t *testing.T) {
	there, next := make(chan struct{}, 1), make(chan struct{})
	var shaken atomic.Bool
	k := kind{"portable", func(t testing.TB) (net.Conn, net.Conn) {
		ours, peer := tcpPair(t)
		return &oddConn{Conn: ours, write: func(p []byte) (int, error) {
			n, err := ours.Write(p)
			if shaken.Load() {
				there <- struct{}{}
				<-next
			}
			return n, err
		}}, peer
	}}
	r := newRecorder()
	wrote := make(chan struct{})
	r.onData = func([]byte) {
		r.transport().Write([]byte("y"))
		wrote <- struct{}{}
	}
	tr, f, client := forgery(t, k, r, nil)
	defer close(next)
	require.Eventually(t, func() bool { return tr.WriteBufferSize() == 0 }, patience, time.Millisecond, "no callback tells")
	shaken.Store(true)
	tr.Write([]byte("y"))
	await(t, "the first Write", there)
	go io.Copy(io.Discard, client)
	for range 1000 {
		f.send(f.record(handshakeRecord, keyUpdate), f.record(dataRecord, []byte("x")))
		await(t, "the answer", wrote)
		next <- struct{}{}
		await(t, "the next Write", there)
	}
	require.False(t, tr.IsClosing())
}

// What comes after the peer's close_notify is nothing.
func TestTLSDataAfterCloseNotify(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		r.onEOF = func() bool { return true }
		_, f, _ := forgery(t, k, r, &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}})
		f.send(f.record(dataRecord, []byte("abc")), f.record(alertRecord, closeNotify), f.record(dataRecord, []byte("late")))
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "the end is the end", "ConnectionMade", "DataReceived 3", "EOFReceived", "ConnectionLost nil")
	})
}

// An alert, and messages that have no place after a handshake, end the
// connection with an error; the data before them are delivered.
func TestTLSUnexpectedRecords(t *testing.T) {
	for name, bad := range map[string]struct {
		contentType byte
		body        []byte
	}{
		"alert":             {alertRecord, []byte{2, 80}},
		"ClientHello":       {handshakeRecord, []byte{1, 0, 0, 0}},
		"session ticket":    {handshakeRecord, []byte{4, 0, 0, 0}},
		"unknown type":      {99, []byte("?")},
		"bad key update":    {handshakeRecord, []byte{24, 0, 0, 1, 7}},
		"half a key update": {handshakeRecord, []byte{24, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				r := newRecorder()
				tr, f, _ := forgery(t, k, r, nil)
				f.send(f.record(dataRecord, []byte("abc")), f.record(bad.contentType, bad.body), f.record(dataRecord, []byte("late")))
				require.Error(t, r.awaitLost(t))
				require.Equal(t, "abc", string(r.received()))
				_, err := tr.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
			})
		})
	}
}

// Empty records are nothing, up to a number.
func TestTLSEmptyRecords(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		r := newRecorder()
		_, f, _ := forgery(t, k, r, nil)
		for range 10 {
			f.send(f.record(dataRecord, nil))
		}
		f.send(f.record(dataRecord, []byte("abc")))
		r.awaitData(t, 3)
		for range 100 {
			if _, err := f.conn.Write(f.record(dataRecord, nil)); err != nil {
				break
			}
		}
		require.Error(t, r.awaitLost(t))
		r.wantCalls(t, "no callback for nothing", "ConnectionMade", "DataReceived 3", r.trace()[2])
	})
}

// pieces are lengths to cut something into, again and again.
type pieces struct {
	cuts []byte
	i    int
}

func (c *pieces) next(n int) int {
	if len(c.cuts) == 0 {
		return n
	}
	c.i++
	return min(n, 1+int(c.cuts[c.i%len(c.cuts)]))
}

// cutter cuts what is written, and what is read.
type cutter struct {
	net.Conn
	in, out pieces
}

func cut(conn net.Conn, cuts []byte) *cutter {
	return &cutter{Conn: conn, in: pieces{cuts: cuts}, out: pieces{cuts: cuts}}
}

func (c *cutter) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = c.Conn.Write(p[n : n+c.out.next(len(p)-n)])
		n += k
	}
	return n, err
}

func (c *cutter) Read(p []byte) (int, error) { return c.Conn.Read(p[:c.in.next(len(p))]) }

// FuzzTLSCuts: it does not matter where the peer's bytes are cut.
func FuzzTLSCuts(f *testing.F) {
	f.Add([]byte{0}, uint16(10), false)
	f.Add([]byte{4, 0}, uint16(3000), true)
	f.Add([]byte{0, 255, 3, 16}, uint16(40_000), false)
	f.Add([]byte{}, uint16(60_000), true)
	f.Fuzz(func(t *testing.T, cuts []byte, size uint16, old bool) {
		for _, k := range kinds {
			ours, peer := k.pair(t)
			if k.name == "portable" {
				ours = cut(ours, cuts)
			}
			opts := serverTLS()
			opts.StrictEOF = true
			if old {
				opts.Config.MaxVersion = tls.VersionTLS12
			}
			r := newRecorder()
			r.onData = func(data []byte) { r.transport().Write(data) }
			client := clientTLSConn(cut(peer, cuts))
			sent := randomBytes(int(size) + 1)
			go client.Write(sent)
			attach(t, ours, r, &strand.AttachOptions{TLS: opts})
			requireSame(t, sent, readN(t, client, len(sent)), "the echo")
			require.NoError(t, client.CloseWrite())
			require.NoError(t, r.awaitLost(t))
			r.wantCalls(t, "an orderly end", "ConnectionMade", fmt.Sprintf("DataReceived %d", len(sent)), "EOFReceived", "ConnectionLost nil")
			peer.Close()
		}
	})
}

// lineUpgrader reads lines and upgrades at STARTTLS, whatever comes with it.
type lineUpgrader struct {
	strand.NopProtocol
	t       strand.Transport
	rest    []byte
	lines   []string
	secure  bool
	failure error
}

func (p *lineUpgrader) ConnectionMade(t strand.Transport) { p.t = t }
func (p *lineUpgrader) ConnectionLost(err error)          { p.failure = errors.Join(p.failure, err) }

func (p *lineUpgrader) DataReceived(data []byte) {
	if p.secure {
		p.t.Write(data)
		return
	}
	p.rest = append(p.rest, data...)
	for {
		line, rest, found := bytes.Cut(p.rest, []byte("\n"))
		if !found {
			return
		}
		p.lines = append(p.lines, string(line))
		p.rest = append([]byte(nil), rest...)
		if string(line) == "STARTTLS" {
			opts := serverTLS()
			opts.Prefix = p.rest
			p.secure = true
			p.failure = strand.StartTLS(p.t, opts, func(err error) { p.failure = err })
			return
		}
	}
}

// FuzzStartTLSBoundary: it does not matter where the bytes are cut around the
// beginning of TLS, even by a client that does not wait for the answer to
// STARTTLS, if the protocol hands on what it was given.
func FuzzStartTLSBoundary(f *testing.F) {
	f.Add([]byte{}, []byte("HELO"), uint16(10))
	f.Add([]byte{0}, []byte("a\nb\n"), uint16(100))
	f.Add([]byte{8, 1, 4, 200}, []byte("\n"), uint16(20_000))
	f.Add([]byte{30, 0}, []byte{}, uint16(1))
	f.Fuzz(func(t *testing.T, cuts, before []byte, size uint16) {
		head := append(append([]byte(nil), before...), "\nSTARTTLS\n"...)
		want := strings.Split(string(head[:bytes.Index(head, []byte("STARTTLS\n"))]), "\n")
		if i := bytes.Index(head, []byte("STARTTLS\n")); i > 0 && head[i-1] != '\n' || i != len(head)-9 {
			t.Skip("the head itself upgrades")
		}
		want[len(want)-1] = "STARTTLS"
		for _, k := range kinds {
			ours, peer := k.pair(t)
			if k.name == "portable" {
				ours = cut(ours, cuts)
			}
			p := new(lineUpgrader)
			tr, _, err := strand.Attach(t.Context(), ours, func() *lineUpgrader { return p }, nil)
			require.NoError(t, err)
			client := clientTLSConn(&headed{Conn: cut(peer, cuts), header: bytes.Clone(head)})
			sent := randomBytes(int(size) + 1)
			go client.Write(sent)
			requireSame(t, sent, readN(t, client, len(sent)), "the echo")
			require.NoError(t, client.CloseWrite())
			await(t, "the end", tr.Done())
			require.NoError(t, p.failure)
			require.Equal(t, want, p.lines)
			io.Copy(io.Discard, client)
			peer.Close()
		}
	})
}
