package strandtest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gostrand/strand"
)

// MakePair connects two protocols through two transports of the kind that is
// tested, with opts for both, and returns them, a's first. It returns after
// ConnectionMade of both, and fails the test if that is not possible. What it
// opened beside the transports it closes with t.Cleanup; the transports
// themselves are aborted by the caller, and their end waited for.
//
// The kernel's buffers between the two should be small, some ten KiB: many
// cases fill them.
type MakePair func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport)

// TestTransport tests that transports keep the laws of a connection and do
// what the comments of strand.Transport say, in the manner of
// golang.org/x/net/nettest. Each case is a subtest, on a new connection, and
// is run three times: with whole writes and a plain Protocol, with single
// bytes and a BufferedProtocol whose buffer has room for one, and with both
// cut at random; the second of them with the two ends swapped.
//
// What a transport cannot do it may refuse: half closing (CanWriteEOF), and
// staying open after the peer's end of file, as over TLS.
func TestTransport(t *testing.T, makePair MakePair) {
	for _, tc := range conformanceCases() {
		t.Run(tc.name, func(t *testing.T) {
			for _, mode := range []Chunks{Whole, SingleBytes, RandomChunks} {
				t.Run(mode.String(), func(t *testing.T) {
					tc.run(newPair(t, mode, makePair))
				})
			}
		})
	}
}

// conformanceCase is one law, or one sentence of a comment.
type conformanceCase struct {
	name string
	run  func(c *pair)
}

func conformanceCases() []conformanceCase {
	var all []conformanceCase
	for _, group := range [][]conformanceCase{
		lifeCases, readCases, protocolCases, eofCases, writeCases, flowCases, callCases, panicCases, concurrencyCases,
	} {
		all = append(all, group...)
	}
	return all
}

// pair is a connection under test: a is the end that a case is about, b its
// peer. A case sets hooks and options, and then calls connect.
type pair struct {
	testing.TB
	mode Chunks
	make MakePair
	seed uint64
	r    *rand.Rand // used by the test's goroutine
	opts strand.TransportOptions
	a, b *end
}

// end is one of the two.
type end struct {
	Recorder
	c    *pair
	p    strand.Protocol // what the transport was given
	tr   strand.Transport
	sent int // bytes written so far: the position in the pattern
}

func newPair(t testing.TB, mode Chunks, mk MakePair) *pair {
	seed := Seed(t)
	c := &pair{TB: t, mode: mode, make: mk, seed: seed, r: newRand(seed, 10)}
	c.opts.Logger = slog.New(slog.DiscardHandler)                       // cases provoke records
	c.opts.WriteBufferHigh, c.opts.WriteBufferLow = smallHigh, smallLow // there are thousands of subtests
	c.a, c.b = &end{c: c}, &end{c: c}
	return c
}

// connect makes the connection.
func (c *pair) connect() {
	c.Helper()
	c.a.p = CheckWith(c, c.asMode(&c.a.Recorder, 11), &CheckOptions{TransportOnly: true})
	c.b.p = CheckWith(c, c.asMode(&c.b.Recorder, 12), &CheckOptions{TransportOnly: true})
	if c.mode == SingleBytes {
		c.b.tr, c.a.tr = c.make(c, c.b.p, c.a.p, c.opts)
	} else {
		c.a.tr, c.b.tr = c.make(c, c.a.p, c.b.p, c.opts)
	}
	abortWithTest(c, c.a.tr)
	abortWithTest(c, c.b.tr)
}

// asMode returns the protocol through which r receives in this mode.
func (c *pair) asMode(r *Recorder, stream uint64) strand.Protocol {
	if c.mode == Whole {
		return r
	}
	return &bufferedRecorder{Recorder: r, mode: c.mode, r: newRand(c.seed, stream), buf: make([]byte, 16<<10)}
}

// bufferedRecorder is a Recorder with buffers of its own, the first of which
// are small.
type bufferedRecorder struct {
	*Recorder
	mode  Chunks
	r     *rand.Rand
	buf   []byte
	calls int
}

const smallBuffers = 100

func (b *bufferedRecorder) GetBuffer(int) []byte {
	b.calls++
	size := len(b.buf)
	if b.calls <= smallBuffers {
		size = 100
	}
	if b.mode == RandomChunks || b.calls <= smallBuffers {
		size = b.mode.next(b.r, size)
	}
	return b.buf[:size]
}

func (b *bufferedRecorder) BufferUpdated(n int) { b.Recorder.DataReceived(b.buf[:n]) }

// pattern returns n bytes of an endless stream, from an offset on, in which
// every place looks different from its neighbourhood.
func pattern(offset, n int) []byte {
	p := make([]byte, 0, n)
	for len(p) < n {
		p = append(p, patternPiece(offset+len(p), n-len(p))...)
	}
	return p
}

// isPattern reports whether p is the part of that stream from an offset on.
func isPattern(p []byte, offset int) bool {
	for len(p) > 0 {
		want := patternPiece(offset, len(p))
		if !bytes.Equal(p[:len(want)], want) {
			return false
		}
		p, offset = p[len(want):], offset+len(want)
	}
	return true
}

// patternPiece returns up to n bytes of the table itself.
func patternPiece(offset, n int) []byte {
	table := patternTable()
	rest := table[offset%len(table):]
	return rest[:min(len(rest), n)]
}

// patternTable is one period. Its length is prime, so that no size of a buffer
// hides a mistake.
var patternTable = sync.OnceValue(func() []byte {
	r := newRand(1, 1)
	p := make([]byte, 262_139)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
})

// write writes the next n bytes of the pattern, in one call.
func (e *end) write(n int) {
	e.c.Helper()
	e.accepted(e.tr.Write(pattern(e.sent, n)))
	e.sent += n
}

func (e *end) accepted(_ int, err error) {
	e.c.Helper()
	if err != nil {
		e.c.Errorf("a Write on an open connection: %v", err)
	}
}

// send writes the next n bytes of the pattern, cut as the mode says; what is
// long only at the beginning.
func (e *end) send(n int) {
	e.c.Helper()
	for pieces := 0; n > 0; pieces++ {
		k := n
		if pieces < 50 {
			k = e.c.mode.next(e.c.r, n)
		}
		if e.c.mode == RandomChunks && e.c.r.IntN(2) == 0 {
			data, cut := pattern(e.sent, k), e.c.r.IntN(k+1)
			e.accepted(e.tr.WriteLines(data[:cut], nil, data[cut:]))
			e.sent += k
		} else {
			e.write(k)
		}
		n -= k
	}
}

// wantAll waits until e has received all that from has sent, and compares it.
func (e *end) wantAll(from *end) {
	e.c.Helper()
	e.Await(e.c, fmt.Sprintf("%d bytes", from.sent), func(_ []string, received int) bool { return received >= from.sent })
	if n, ok := e.receivedPattern(); n != from.sent || !ok {
		e.c.Fatalf("the %d bytes received are not the %d that were sent", n, from.sent)
	}
}

// receivedPattern returns how much e has received, and whether it is the
// beginning of the pattern.
func (e *end) receivedPattern() (n int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.data), isPattern(e.data, 0)
}

// wantPrefix checks that what e has received is the beginning of the pattern.
func (e *end) wantPrefix() {
	e.c.Helper()
	if n, ok := e.receivedPattern(); !ok {
		e.c.Fatalf("the %d bytes received are not those that were sent", n)
	}
}

// smallHigh and smallLow are the water marks of most cases.
const smallHigh, smallLow = 16 << 10, 4 << 10

// bulk is what output has to be held for the connection to count as full.
const bulk = 96 << 10

// fill has the peer stop reading, and writes until output is held that the
// connection has no room for. What is between the ends may be slow to take what
// it has room for, and the peer may be in the middle of its last receive; so
// fill looks again. It is no proof that nothing more is taken: a case that
// depends on what is held at a moment calls flood in turn, right before it.
func (e *end) fill(peer *end) {
	e.c.Helper()
	peer.tr.PauseReading()
	e.flood()
	peer.settle()
	e.settle()
	e.flood()
}

func (e *end) flood() {
	e.c.Helper()
	for n := 0; e.tr.WriteBufferSize() < bulk; n++ {
		if n == 4000 {
			e.c.Fatalf("WriteBufferSize is %d although the peer does not read", e.tr.WriteBufferSize())
		}
		e.write(16 << 10)
	}
}

// do runs fn in turn with e's callbacks, and waits for it.
func (e *end) do(fn func()) {
	e.c.Helper()
	ran := make(chan struct{})
	if !e.tr.CallSoon(func() { defer close(ran); fn() }) {
		e.c.Fatalf("CallSoon refused although the connection is open")
	}
	e.c.await("a func of CallSoon", ran)
}

// settle waits until what is running in e has run.
func (e *end) settle() { e.c.Helper(); e.do(func() {}) }

// awaitFlushed waits until e holds no output.
func (e *end) awaitFlushed() {
	e.c.Helper()
	e.c.eventually("the output to be taken", func() bool { return e.tr.WriteBufferSize() == 0 })
}

// giveTime lets what e has written arrive, as far as its peer lets it: a
// connection without any buffer holds it until the peer reads.
func (e *end) giveTime() {
	e.c.Helper()
	for range 50 {
		if e.tr.WriteBufferSize() == 0 {
			break
		}
		e.settle()
		runtime.Gosched()
	}
	e.c.a.settle()
	e.c.b.settle()
}

// eventually asks until cond is true: for what no callback tells.
func (c *pair) eventually(what string, cond func() bool) {
	c.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for asked := time.Now(); !cond(); <-tick.C {
		if time.Since(asked) > patience() {
			c.Fatalf("never happened: %s", what)
		}
	}
}

// await waits for a channel to be closed.
func (c *pair) await(what string, ch <-chan struct{}) {
	c.Helper()
	timeout := time.NewTimer(patience())
	defer timeout.Stop()
	select {
	case <-ch:
	case <-timeout.C:
		c.Fatalf("never happened: %s", what)
	}
}

// endInput lets e's peer receive the end of file, by the mildest means there
// is.
func (e *end) endInput() {
	e.c.Helper()
	if !e.tr.CanWriteEOF() {
		e.tr.Close()
		return
	}
	if err := e.tr.WriteEOF(); err != nil {
		e.c.Fatalf("WriteEOF: %v", err)
	}
}

// keepsOpen reports whether this connection can go on one way.
func (c *pair) keepsOpen() bool { return c.a.tr.CanWriteEOF() && c.b.tr.CanWriteEOF() }

// wantLost waits for the end of e, compares what ConnectionLost got, and checks
// that nothing comes after it.
func (e *end) wantLost(want error) {
	e.c.Helper()
	if got := e.AwaitLost(e.c); !errors.Is(got, want) {
		e.c.Fatalf("ConnectionLost(%v), want %v", got, want)
	}
	AwaitDone(e.c, e.tr)
	calls := e.Calls()
	if last := calls[len(calls)-1]; countCalls([]string{last}, "ConnectionLost") != 1 {
		e.c.Errorf("%s came after ConnectionLost", last)
	}
}

// wantCalls compares how often e had a callback.
func (e *end) wantCalls(why, call string, n int) {
	e.c.Helper()
	if got := countCalls(e.Calls(), call); got != n {
		e.c.Errorf("%s came %d times, want %d: %s; the calls were %q", call, got, n, why, e.Calls())
	}
}

// want fails the test unless ok.
func (c *pair) want(ok bool, why string, args ...any) {
	c.Helper()
	if !ok {
		c.Errorf(why, args...)
	}
}

// wantClosed checks the result of a Write after the end.
func (c *pair) wantClosed(n int, err error) {
	c.Helper()
	c.want(n == 0 && errors.Is(err, net.ErrClosed), "a write after the end returned %d, %v", n, err)
}
