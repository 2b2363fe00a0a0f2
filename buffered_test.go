package strand_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// bufferedRecorder is a recorder that provides the memory it receives into.
// What it received stands in recorder.data, as with a plain one.
type bufferedRecorder struct {
	*recorder
	size      int // of the buffers, 64 if it is 0
	onGet     func()
	onUpdated func(n int)

	hints []int
	gets  int // calls of GetBuffer
	buf   []byte
}

func newBufferedRecorder() *bufferedRecorder { return &bufferedRecorder{recorder: newRecorder()} }

// GetBuffer is not noted in the trace: how often it is called depends on the
// kind of connection (BP-03).
func (r *bufferedRecorder) GetBuffer(hint int) []byte {
	defer r.guard("GetBuffer")()
	r.mu.Lock()
	r.gets++
	r.hints = append(r.hints, hint)
	size := r.size
	r.mu.Unlock()
	if size == 0 {
		size = 64
	}
	r.buf = make([]byte, max(size, 0))
	if r.onGet != nil {
		r.onGet()
	}
	return r.buf
}

func (r *bufferedRecorder) BufferUpdated(n int) {
	defer r.guard("BufferUpdated")()
	r.mu.Lock()
	if n < 1 || n > len(r.buf) {
		r.broken = append(r.broken, fmt.Sprintf("BufferUpdated(%d) of %d bytes", n, len(r.buf)))
	}
	r.data = append(r.data, r.buf[:n]...)
	if last := len(r.calls) - 1; r.calls[last] != "BufferUpdated" {
		r.calls = append(r.calls, "BufferUpdated") // once for a whole run of them
	}
	r.tell()
	r.mu.Unlock()
	if r.onUpdated != nil {
		r.onUpdated(n)
	}
}

// guard is enter without an entry in the trace.
func (r *bufferedRecorder) guard(call string) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside != "" {
		r.broken = append(r.broken, call+" inside "+r.inside)
	}
	r.inside = call
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inside = ""
	}
}

// attachBuffered is attach for a BufferedProtocol.
func attachBuffered(t testing.TB, conn net.Conn, r *bufferedRecorder) strand.Transport {
	t.Helper()
	opts := &strand.AttachOptions{TransportOptions: strand.TransportOptions{Logger: quiet}}
	tr, _, err := strand.Attach(context.Background(), conn, func() *bufferedRecorder { return r }, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		tr.Abort()
		await(t, "the end after Abort", tr.Done())
	})
	return tr
}

// BP-01, BP-05, BP-06: having the two methods is enough, at creation. Data
// comes into the buffers only, the rest of the life is the same.
func TestBufferedLife(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newBufferedRecorder()
		attachBuffered(t, ours, r)
		pump(peer, numbered(1000))
		r.awaitData(t, 1000)
		closeWrite(t, peer)
		require.NoError(t, r.awaitLost(t))
		require.Equal(t, numbered(1000), r.received())
		r.wantCalls(t, "no DataReceived", "ConnectionMade", "BufferUpdated", "EOFReceived", "ConnectionLost nil")
	})
}

// BP-01: one of the two methods alone makes no BufferedProtocol.
func TestHalfBufferedIsPlain(t *testing.T) {
	r := &halfBuffered{recorder: newRecorder()}
	ours, peer := tcpPair(t)
	tr, _, err := strand.Attach(context.Background(), ours, func() *halfBuffered { return r }, nil)
	require.NoError(t, err)
	defer tr.Abort()
	send(t, peer, "x")
	r.awaitCall(t, "DataReceived 1")
}

type halfBuffered struct{ *recorder }

func (halfBuffered) GetBuffer(int) []byte { panic("not a BufferedProtocol") }

// BP-02: on a socket the hint is -1 for "anything", and one receive fills as
// much of the buffer as there is.
func TestBufferedReceivesIntoTheBuffer(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			ours, peer := k.pair(t)
			r := newBufferedRecorder()
			r.size = 100
			var sizes []int
			r.onUpdated = func(n int) { sizes = append(sizes, n) }
			r.onMade = func(tr strand.Transport) { tr.PauseReading() }
			tr := attachBuffered(t, ours, r)
			send(t, peer, strings.Repeat("x", 250))
			tr.ResumeReading()
			r.awaitData(t, 250)
			tr.Abort()
			r.awaitLost(t)
			require.Equal(t, []int{100, 100, 50}, sizes)
			for _, hint := range r.hints {
				require.Equal(t, -1, hint)
			}
		})
	}
}

// BP-03: GetBuffer is not always followed by BufferUpdated: an end of file
// needs a buffer to be found.
func TestGetBufferBeforeEOF(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			ours, peer := k.pair(t)
			r := newBufferedRecorder()
			updates := 0
			r.onUpdated = func(int) { updates++ }
			attachBuffered(t, ours, r)
			closeWrite(t, peer)
			require.NoError(t, r.awaitLost(t))
			require.Zero(t, updates)
			require.NotZero(t, r.gets)
		})
	}
}

// BP-04: an empty buffer is an error, which the log and ConnectionLost get.
func TestEmptyBuffer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		var log logBuffer
		ours, peer := k.pair(t)
		r := newBufferedRecorder()
		r.size = -1
		r.onMade = func(tr strand.Transport) { tr.PauseReading() } // a socket asks for a buffer early
		tr, _, err := strand.Attach(context.Background(), ours, func() *bufferedRecorder { return r },
			&strand.AttachOptions{TransportOptions: logTo(&log)})
		require.NoError(t, err)
		send(t, peer, "x")
		tr.ResumeReading()
		require.ErrorContains(t, r.awaitLost(t), "GetBuffer returned an empty buffer")
		require.NotContains(t, r.trace(), "BufferUpdated")
		require.Contains(t, log.String(), "level=ERROR")
		require.Contains(t, log.String(), "GetBuffer returned an empty buffer")
	})
}

// BP-06, RD-06: PauseReading inside BufferUpdated stops delivery after that
// buffer, on every kind, also where the rest is in memory already.
func TestPauseInBufferUpdated(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newBufferedRecorder()
		r.size = 4
		r.onUpdated = func(int) { r.transport().PauseReading() }
		tr := attachBuffered(t, ours, r)
		send(t, peer, "12345678")
		closeWrite(t, peer)
		r.awaitData(t, 4)
		whenIdle(t, tr)
		settle(t)
		require.Equal(t, "1234", string(r.received()))
		tr.ResumeReading()
		r.awaitData(t, 8)
		whenIdle(t, tr)
		settle(t)
		require.NotContains(t, r.trace(), "EOFReceived")
		tr.ResumeReading()
		require.NoError(t, r.awaitLost(t))
		require.Equal(t, "12345678", string(r.received()))
	})
}

// BP-06, RD-11: nothing is received after a Close or Abort inside either
// callback, but for the pair of GetBuffer and BufferUpdated that had begun.
func TestEndInBufferedCallbacks(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for name, end := range ends {
			for _, inGet := range []bool{true, false} {
				ours, peer := k.pair(t)
				r := newBufferedRecorder()
				r.size = 4
				stop := func() { end(r.transport()) }
				if inGet {
					r.onGet = stop
				} else {
					r.onUpdated = func(int) { stop() }
				}
				r.onMade = func(tr strand.Transport) { tr.PauseReading() } // a socket asks for a buffer early
				tr := attachBuffered(t, ours, r)
				send(t, peer, "12345678")
				tr.ResumeReading()
				require.NoError(t, r.awaitLost(t), name)
				require.Equal(t, "1234", string(r.received()), name)
			}
		}
	})
}

// BP-06: a pause inside GetBuffer counts after the pair that had begun.
func TestPauseInGetBuffer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newBufferedRecorder()
		r.size = 4
		r.onGet = func() { r.transport().PauseReading() }
		r.onMade = func(tr strand.Transport) { tr.PauseReading() } // a socket asks for a buffer early
		tr := attachBuffered(t, ours, r)
		send(t, peer, "12345678")
		tr.ResumeReading()
		r.awaitData(t, 4)
		settle(t)
		require.Equal(t, "1234", string(r.received()))
		tr.ResumeReading()
		r.awaitData(t, 8)
		require.Equal(t, "12345678", string(r.received()))
	})
}

// BP-06, RD-02: after a pause inside GetBuffer no end is noticed, neither an end
// of file nor a reset.
func TestEndAfterPauseInGetBuffer(t *testing.T) {
	for name, end := range map[string]func(testing.TB, net.Conn){"EOF": closeWrite, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			ours, peer := tcpPair(t)
			r := newBufferedRecorder()
			paused := make(chan struct{})
			r.onGet = func() {
				r.onGet = nil
				r.transport().PauseReading()
				end(t, peer)
				close(paused)
			}
			tr := attachBuffered(t, ours, r)
			await(t, "GetBuffer", paused)
			settle(t)
			require.Equal(t, []string{"ConnectionMade"}, r.trace())
			tr.ResumeReading()
			r.awaitLost(t)
		})
	}
}

// BP-07: bytes that are in memory are copied into the buffers, and the hint is
// what is left of them.
func TestBufferedByCopying(t *testing.T) {
	for _, size := range []int{1, 2, 4, 100} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			ours, peer := net.Pipe()
			defer peer.Close()
			r := newBufferedRecorder()
			r.size = size
			tr := attachBuffered(t, ours, r)
			send(t, peer, "0123456789")
			r.awaitData(t, 10)
			tr.Abort()
			r.awaitLost(t)
			require.Equal(t, "0123456789", string(r.received()))
			var want []int
			for left := 10; left > 0; left -= size {
				want = append(want, left)
			}
			require.Equal(t, want, r.hints)
		})
	}
}

// SP-01: the new protocol gets no ConnectionMade and the old one no
// ConnectionLost; all that is called later goes to the new one.
func TestSetProtocol(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		old, new := newRecorder(), newRecorder()
		tr, peer := narrow(t, k, old, nil)
		new.ConnectionMade(tr) // by hand: the recorder wants to know its transport
		tr.SetProtocol(new)
		require.Same(t, new, tr.Protocol())
		send(t, peer, "x")
		new.awaitData(t, 1)
		mustWrite(t, tr, numbered(plenty))
		new.awaitCall(t, "PauseWriting")
		readN(t, peer, plenty)
		new.awaitCall(t, "ResumeWriting")
		closeWrite(t, peer)
		require.NoError(t, new.awaitLost(t))
		old.wantCalls(t, "nothing more", "ConnectionMade")
		new.wantCalls(t, "everything",
			"ConnectionMade", "DataReceived 1", "PauseWriting", "ResumeWriting", "EOFReceived", "ConnectionLost nil")
	})
}

// switching is a protocol that is plain and buffered by turns: it takes one
// chunk or buffer, then installs the other half.
type switching struct {
	*recorder
	other strand.Protocol
}

func (s *switching) DataReceived(data []byte) {
	s.recorder.DataReceived(data)
	s.transport().SetProtocol(s.other)
}

type switchingBuffered struct {
	*bufferedRecorder
	other strand.Protocol
}

func (s *switchingBuffered) BufferUpdated(n int) {
	s.bufferedRecorder.BufferUpdated(n)
	s.transport().SetProtocol(s.other)
}

// SP-02: a switch inside a callback takes effect from the next chunk, from
// plain to buffered and back, and no byte is lost or comes twice.
func TestSwitchBetweenPlainAndBuffered(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const size = 100_000
		both := newRecorder()
		buffered := &switchingBuffered{bufferedRecorder: &bufferedRecorder{recorder: both, size: 1000}}
		plain := &switching{recorder: both, other: buffered}
		buffered.other = plain
		ours, peer := k.pair(t)
		tr, _, err := strand.Attach(context.Background(), ours, func() *switching { return plain }, nil)
		require.NoError(t, err)
		defer tr.Abort()
		for i := 0; i < size; i += 5000 {
			pump(peer, numbered(size)[i:i+5000])
			both.awaitData(t, i+5000)
		}
		closeWrite(t, peer)
		require.NoError(t, both.awaitLost(t))
		require.True(t, bytes.Equal(numbered(size), both.received()))
	})
}

// SP-02: a protocol that reads its header into a small buffer hands the rest
// over: the next protocol gets every byte after it.
func TestSwitchAfterHeader(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		body := newRecorder()
		header := &switchingBuffered{bufferedRecorder: newBufferedRecorder(), other: body}
		header.size = 4
		ours, peer := k.pair(t)
		tr, _, err := strand.Attach(context.Background(), ours, func() *switchingBuffered { return header }, nil)
		require.NoError(t, err)
		defer tr.Abort()
		body.ConnectionMade(tr)
		send(t, peer, "HEADbody")
		body.awaitData(t, 4)
		require.Equal(t, "HEAD", string(header.received()))
		require.Equal(t, "body", string(body.received()))
	})
}

// SP-03: between Close and ConnectionLost the new protocol gets the end.
func TestSetProtocolAfterClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		old, new := newRecorder(), newRecorder()
		old.onData = func([]byte) {
			tr := old.transport()
			tr.Close()
			new.ConnectionMade(tr)
			tr.SetProtocol(new)
		}
		_, peer := connected(t, k, old, nil)
		send(t, peer, "x")
		await(t, "the end", old.transport().Done())
		old.wantCalls(t, "not lost", "ConnectionMade", "DataReceived 1")
		new.wantCalls(t, "lost", "ConnectionMade", "ConnectionLost nil")
	})
}

// SP-04: a switch inside GetBuffer leaves the pair of callbacks on the old
// protocol.
func TestSetProtocolInGetBuffer(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		next := newRecorder()
		old := newBufferedRecorder()
		old.size = 4
		old.onGet = func() { old.transport().SetProtocol(next) }
		old.onMade = func(tr strand.Transport) { tr.PauseReading() } // a socket asks for a buffer early
		ours, peer := k.pair(t)
		tr := attachBuffered(t, ours, old)
		next.ConnectionMade(tr)
		send(t, peer, "12345678")
		tr.ResumeReading()
		next.awaitData(t, 4)
		require.Equal(t, "1234", string(old.received()))
		require.Equal(t, "5678", string(next.received()))
	})
}

// SP-01, BP-01: SetProtocol while reading is paused decides who gets what
// waits.
func TestSetProtocolWhilePaused(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		old := newRecorder()
		tr, peer := connected(t, k, old, nil)
		tr.PauseReading()
		send(t, peer, "x")
		settle(t)
		next := newBufferedRecorder()
		next.ConnectionMade(tr)
		tr.SetProtocol(next)
		tr.ResumeReading()
		next.awaitData(t, 1)
		require.Empty(t, old.received())
	})
}

// BP-06: the gaps between two buffers of one chunk are turns like any other:
// what was posted runs in them.
func TestPostedRunsBetweenBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		defer peer.Close()
		r := newBufferedRecorder()
		r.size = 4
		var order []string
		var once sync.Once
		r.onUpdated = func(int) {
			order = append(order, "buffer")
			once.Do(func() {
				assert.True(t, r.transport().CallSoon(func() { order = append(order, "posted") }))
			})
		}
		tr := attachBuffered(t, ours, r)
		send(t, peer, "12345678")
		r.awaitData(t, 8)
		tr.Abort()
		r.awaitLost(t)
		require.Equal(t, []string{"buffer", "posted", "buffer"}, order)
	})
}
