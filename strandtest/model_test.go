package strandtest

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

var opsFlag = flag.Int("strandtest.ops", 20_000, "operations of the model tests")

// TestModel does random operations on one connection after the other. Half of
// them come one by one, and after each the connection is compared with the
// model when nothing moves any more; the others come from several goroutines at
// both ends, and what can be said then is said at the end of a connection.
func TestModel(t *testing.T) {
	r := newRand(Seed(t), 20)
	for done := 0; done < *opsFlag/2; {
		script := make([]byte, 2*(1+r.IntN(150)))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		done += len(script) / 2
		synctest.Test(t, func(t *testing.T) { runScript(t, script) })
		if t.Failed() {
			t.Fatalf("the script was %x", script)
		}
	}
}

func TestModelManyGoroutines(t *testing.T) {
	r := newRand(Seed(t), 21)
	for done := 0; done < *opsFlag/2; {
		n := 20 + r.IntN(100)
		done += n * crowd
		seed := r.Uint64()
		synctest.Test(t, func(t *testing.T) { runCrowd(t, seed, n) })
		if t.Failed() {
			t.Fatalf("the connection's seed was %d, with %d operations each", seed, n)
		}
	}
}

// FuzzOperations is TestModel with scripts that the fuzzer writes: two bytes for
// each operation.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{opWrite, 200, opPeerRead, 255, opClose, 0})
	f.Add([]byte{opLimits, 3, opWrite, 255, opWrite, 255, opPeerRead, 255, opPeerRead, 255, opPeerRead, 255, opPeerRead, 255})
	f.Add([]byte{opLimits, 4, opWrite, 10, opWrite, 255, opPeerRead, 255, opLimits, 8, opPeerRead, 255, opWrite, 1, opClose, 0})
	f.Add([]byte{opLimits, 7, opPeerWrite, 1, opHookWrite, 90, opPeerWrite, 50, opPeerRead, 255, opPeerRead, 255})
	f.Add([]byte{opPause, 0, opPeerWrite, 50, opPeerEOF, 0, opResume, 0})
	f.Add([]byte{opWrite, 255, opEOF, 0, opClose, 0, opPeerRead, 255, opPeerRead, 255})
	f.Add([]byte{opKeepOpen, 0, opPeerEOF, 0, opWrite, 9, opSetProtocol, 1, opAbort, 0})
	f.Add([]byte{opWrite, 255, opPeerReset, 0, opWrite, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runScript(t, script) })
	})
}

// The operations. What ends something is rarer than what does not: see opOf.
const (
	opWrite = iota
	opWriteLines
	opPause
	opResume
	opLimits
	opSetProtocol
	opCallSoon
	opCallLater
	opPeerWrite
	opPeerRead
	opKeepOpen
	opHookWrite // a write inside the next DataReceived
	opEOF
	opClose
	opAbort
	opPeerEOF
	opPeerClose
	opPeerReset
	opCount
)

// opOf decodes an operation: small values are themselves, others are harmless.
func opOf(b byte) int {
	if b < opCount {
		return int(b)
	}
	return int(b) % opEOF
}

// model is what the laws say about a connection of which nothing moves. The
// end under test is a transport, its peer the other end of a Pipe.
type model struct {
	t     *testing.T
	tr    strand.Transport
	ours  *Conn
	peer  *Conn
	check *checker

	// What was done.
	accepted  int    // bytes that Write took
	peerSent  int    // bytes the peer has written
	peerGot   stream // what the peer has read
	eof       bool
	closed    bool
	aborted   bool
	peerEOF   bool // half or whole close
	peerGone  bool
	peerReset bool
	relimited bool // since the last pause
	mustPause bool // a Write was accepted that has to have paused
	toldOf    int  // pauses, when mustPause was set
	soon, ran int

	// What was seen: written by callbacks.
	mu        sync.Mutex
	got       stream
	pauses    int
	resumes   int
	sawEOF    bool
	lost      bool
	lostErr   error
	keepOpen  bool
	hookWrite int
}

// stream counts bytes that have to be the pattern, and compares each when it
// comes.
type stream struct {
	n     int
	wrong bool
}

func (s *stream) add(p []byte) {
	s.wrong = s.wrong || !isPattern(p, s.n)
	s.n += len(p)
}

func (s *stream) len() int        { return s.n }
func (s *stream) isPattern() bool { return !s.wrong }

// modelCapacity is what the Pipe holds.
const modelCapacity = 5000

// modelProtocol is one of the protocols of a model.
type modelProtocol struct {
	strand.NopProtocol
	m *model
}

func (p *modelProtocol) DataReceived(data []byte) {
	p.m.mu.Lock()
	n := p.m.hookWrite
	p.m.hookWrite = 0
	p.m.got.add(data)
	p.m.mu.Unlock()
	if n > 0 {
		p.m.write(n)
	}
}

func (p *modelProtocol) note(f func()) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	f()
}

func (p *modelProtocol) PauseWriting()  { p.note(func() { p.m.pauses++; p.m.relimited = false }) }
func (p *modelProtocol) ResumeWriting() { p.note(func() { p.m.resumes++ }) }
func (p *modelProtocol) ConnectionLost(err error) {
	p.note(func() { p.m.lost, p.m.lostErr = true, err })
}

func (p *modelProtocol) EOFReceived() (keep bool) {
	p.note(func() { p.m.sawEOF, keep = true, p.m.keepOpen })
	return keep
}

// modelBuffered receives into a buffer of its own.
type modelBuffered struct {
	modelProtocol
	buf []byte
}

func (p *modelBuffered) GetBuffer(int) []byte { return p.buf }
func (p *modelBuffered) BufferUpdated(n int)  { p.DataReceived(p.buf[:n]) }

func (m *model) protocol(arg byte) strand.Protocol {
	if arg%2 == 0 {
		return m.check.wrap(&modelProtocol{m: m})
	}
	return m.check.wrap(&modelBuffered{modelProtocol{m: m}, make([]byte, 1+int(arg)*3)})
}

// runScript runs a script in a bubble.
func runScript(t *testing.T, script []byte) {
	ours, peer := Pipe(modelCapacity)
	m := &model{t: t, ours: ours, peer: peer, check: &checker{t: t, opts: CheckOptions{TransportOnly: true}}}
	defer m.check.finish()
	tr, _, err := strand.Attach(t.Context(), ours, func() strand.Protocol { return m.protocol(0) }, quietOptions())
	require.NoError(t, err)
	m.tr = tr
	synctest.Wait()
	for i := 0; i+1 < len(script) && !t.Failed(); i += 2 {
		op := opOf(script[i])
		m.do(op, script[i+1])
		synctest.Wait()
		m.compare(fmt.Sprintf("operation %d, %d(%d)", i/2, op, script[i+1]))
	}
	m.finish()
}

func quietOptions() *strand.AttachOptions {
	return &strand.AttachOptions{TransportOptions: strand.TransportOptions{
		Logger: slog.New(slog.DiscardHandler), CloseTimeout: -1,
	}}
}

// do does one operation.
func (m *model) do(op int, arg byte) {
	switch op {
	case opWrite:
		m.write(int(arg) * int(arg))
	case opWriteLines:
		m.writeLines(int(arg) * 10)
	case opPause:
		m.tr.PauseReading()
	case opResume:
		m.tr.ResumeReading()
	case opLimits:
		m.mu.Lock()
		m.relimited = true
		m.mu.Unlock()
		high, low := marksOf(arg)
		require.NoError(m.t, m.tr.SetWriteBufferLimits(high, low))
	case opSetProtocol:
		m.tr.SetProtocol(m.protocol(arg))
	case opCallSoon:
		if m.tr.CallSoon(func() { m.ran++ }) {
			m.soon++
		}
	case opCallLater:
		m.tr.CallLater(0, func() {}).Stop()
	case opPeerWrite, opPeerRead, opPeerEOF, opPeerClose, opPeerReset:
		m.doPeer(op, arg)
	case opKeepOpen:
		m.mu.Lock()
		m.keepOpen = !m.keepOpen
		m.mu.Unlock()
	case opHookWrite:
		m.mu.Lock()
		m.hookWrite = int(arg) * 100
		m.mu.Unlock()
	case opEOF:
		m.eof = m.eof || !m.tr.IsClosing()
		require.NoError(m.t, m.tr.WriteEOF())
	case opClose:
		m.closed = true
		m.tr.Close()
	case opAbort:
		m.aborted = true
		m.tr.Abort()
	}
}

// marksOf decodes the arguments of SetWriteBufferLimits. Two marks of zero are
// as likely as all else: they pause with any byte held (FC-09).
func marksOf(arg byte) (high, low int) {
	n := int(arg) * 200
	switch arg % 8 {
	case 0:
		return n, -1
	case 1:
		return -1, n
	case 2:
		return n, n
	case 3:
		return n, 0
	}
	return 0, 0
}

// doPeer does what the peer does. It never waits.
func (m *model) doPeer(op int, arg byte) {
	switch {
	case m.peerGone:
	case op == opPeerWrite && !m.peerEOF:
		n := min(int(arg)*20, modelCapacity-m.ours.Buffered())
		if k, err := m.peer.Write(pattern(m.peerSent, n)); err == nil {
			m.peerSent += k
		}
	case op == opPeerRead:
		m.peerRead(int(arg) * 40)
	case op == opPeerEOF:
		m.peerEOF = m.peer.CloseWrite() == nil || m.peerEOF
	case op == opPeerClose:
		m.peerGone = true
		m.peer.Close()
	case op == opPeerReset:
		m.peerGone, m.peerReset = true, true
		m.peer.Reset()
	}
}

// peerRead reads what is there, up to n bytes.
func (m *model) peerRead(n int) error {
	m.peer.SetReadDeadline(time.Now().Add(time.Nanosecond))
	buf := make([]byte, n+1)
	k, err := m.peer.Read(buf[:n])
	m.peerGot.add(buf[:k])
	return err
}

// write writes the next n bytes of the pattern, and checks law 6.
func (m *model) write(n int) {
	closing := m.tr.IsClosing()
	m.expectPause(n)
	k, err := m.tr.Write(pattern(m.accepted, n))
	m.wrote(n, k, closing, err)
}

// expectPause notes that a Write of n bytes pauses, if that is certain: on a
// conn whose Write may block all of it is held until it has returned.
func (m *model) expectPause(n int) {
	_, high := m.tr.WriteBufferLimits()
	if m.tr.Writable() && m.tr.WriteBufferSize()+n > high {
		m.mu.Lock()
		m.mustPause, m.toldOf = true, m.pauses
		m.mu.Unlock()
	}
}

func (m *model) writeLines(n int) {
	closing := m.tr.IsClosing()
	p := pattern(m.accepted, n)
	m.expectPause(n)
	k, err := m.tr.WriteLines(p[:n/3], p[n/3:n/2], p[n/2:])
	m.wrote(n, k, closing, err)
}

func (m *model) wrote(n, k int, closing bool, err error) {
	switch {
	case m.eof && errors.Is(err, strand.ErrWriteAfterEOF):
	case closing && errors.Is(err, net.ErrClosed):
	case !closing && !m.eof && err == nil && k == n:
	default:
		m.t.Errorf("Write of %d bytes returned %d, %v; closing %t, after WriteEOF %t", n, k, err, closing, m.eof)
	}
	m.accepted += k
}

// compare compares the connection, which is at rest, with the laws.
func (m *model) compare(after string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	law := func(ok bool, what string) {
		if !ok {
			m.t.Errorf("after %s: %s; accepted %d, peer has read %d, size %d, pauses %d, resumes %d, lost %t %v",
				after, what, m.accepted, m.peerGot.len(), m.tr.WriteBufferSize(), m.pauses, m.resumes, m.lost, m.lostErr)
		}
	}
	law(m.got.isPattern() && m.got.len() <= m.peerSent, "law 5: what was received is not what was sent")
	law(m.peerGot.isPattern() && m.peerGot.len() <= m.accepted, "law 5: what the peer received is not what was written")
	law(m.lost == isClosed(m.tr.Done()), "Done and ConnectionLost do not agree")
	law(m.ran == m.soon, "not every func of CallSoon has run")
	m.compareEnd(law)
	if !m.tr.IsClosing() {
		m.compareOpen(law)
	}
}

// compareEnd says when the connection has to be lost, and when it must not.
func (m *model) compareEnd(law func(bool, string)) {
	provoked := m.closed || m.aborted || m.peerEOF || m.peerGone
	law(provoked || !m.tr.IsClosing(), "nobody has ended the connection")
	law(!m.lost || m.tr.IsClosing(), "lost and not closing")
	law(!m.aborted || m.lost, "Abort, and not lost")
	law(!m.lost || !m.peerGone && m.lostErr == nil || m.peerGone, "ConnectionLost with an error although nothing went wrong")
	if m.tr.IsClosing() && m.tr.WriteBufferSize() == 0 {
		law(m.lost, "closing with nothing left to send, and not lost")
	}
	if !m.lost && m.peerReset && m.tr.IsReading() && !m.sawEOF {
		law(false, "the peer has reset the connection, and it is not lost")
	}
	if m.lost && m.lostErr != nil {
		law(errors.Is(m.lostErr, syscall.ECONNRESET) || errors.Is(m.lostErr, syscall.EPIPE), "ConnectionLost got an error that nobody made")
	}
}

// compareOpen is about a connection that goes on.
func (m *model) compareOpen(law func(bool, string)) {
	size, outstanding := m.tr.WriteBufferSize(), m.accepted-m.peerGot.len()
	low, high := m.tr.WriteBufferLimits()
	paused := m.pauses > m.resumes
	law(m.pauses-m.resumes == 0 || m.pauses-m.resumes == 1, "law 4: pauses and resumes do not alternate")
	law(m.tr.Writable() == (!paused && !m.eof), "law 4: Writable is not what the protocol was told")
	law(size <= high || paused, "law 4: over the high-water mark, and not paused")
	law(!paused || size > 0, "law 4: nothing is held, and not resumed")
	law(!m.mustPause || m.pauses > m.toldOf, "law 4: a Write went over the high-water mark, and there was no pause")
	m.mustPause = false
	law(!paused || m.relimited || size > low, "law 4: at the low-water mark, and not resumed")
	if !m.peerGone {
		// A piece counts until the Write of all of it has returned.
		law(size <= m.accepted && size >= outstanding-modelCapacity, "law 5: the bytes held are not those that were not taken")
		law(size == 0 || outstanding > 0, "law 5: bytes are held that the peer has read")
	}
	if m.tr.IsReading() && !m.peerReset {
		law(m.got.len() == m.peerSent, "law 5: something that was sent is not delivered, although reading is not paused")
		law(!m.peerEOF || m.sawEOF, "the peer's end of file is not delivered")
	}
}

// finish ends the connection and looks at the last things.
func (m *model) finish() {
	if m.t.Failed() {
		m.tr.Abort()
		m.peer.Close()
		return
	}
	m.tr.Close()
	m.closed = true
	for !m.peerGone {
		err := m.peerRead(modelCapacity)
		synctest.Wait()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			require.True(m.t, err == io.EOF || errors.Is(err, syscall.ECONNRESET), "the peer's last error is %v", err)
			break
		}
	}
	synctest.Wait()
	m.compare("the end")
	m.mu.Lock()
	defer m.mu.Unlock()
	require.True(m.t, m.lost, "never lost")
	if !m.aborted && !m.peerGone {
		require.Equal(m.t, m.accepted, m.peerGot.len(), "law 5: Close loses nothing")
	}
	m.peer.Close()
}

// crowd is the number of goroutines that use one connection.
const crowd = 6

// crowdEnd is one end of a connection that a crowd uses.
type crowdEnd struct {
	*model
	write sync.Mutex // Write, and the count of what it took
	rec   *Recorder
}

// runCrowd has goroutines do n operations each, at both ends.
func runCrowd(t *testing.T, seed uint64, n int) {
	a, b := &crowdEnd{rec: new(Recorder)}, &crowdEnd{rec: new(Recorder)}
	r := newRand(seed, 0)
	f := Faults{Chunks: Chunks(r.IntN(3)), PartialWrites: r.IntN(2) == 0, ShortWrites: r.IntN(2) == 0, Seed: seed}
	o := &PairOptions{Capacity: 1 + r.IntN(20_000), A: *quietOptions(), B: *quietOptions()}
	o.A.CloseTimeout, o.B.CloseTimeout = 0, 0 // two closing ends may wait for each other to read
	if r.IntN(2) == 0 {
		o.FaultsA, o.FaultsB = f, f
	}
	for _, e := range []*crowdEnd{a, b} {
		e.model = &model{t: t, check: &checker{t: t, opts: CheckOptions{TransportOnly: true}}}
		e.keepOpen = r.IntN(2) == 0
	}
	a.tr, b.tr = PairWith(t, a.protocol(0), b.protocol(0), o)
	var wg sync.WaitGroup
	for i := range crowd {
		e := []*crowdEnd{a, b}[i%2]
		rnd := newRand(seed, uint64(1+i))
		wg.Go(func() {
			for range n {
				e.random(rnd)
			}
		})
	}
	wg.Wait()
	for _, e := range []*crowdEnd{a, b} {
		e.tr.ResumeReading()
	}
	synctest.Wait()
	a.tr.Close()
	a.drainInto(b)
	b.tr.Close()
	b.drainInto(a)
	<-a.tr.Done()
	<-b.tr.Done()
	a.wantLaws(b)
	b.wantLaws(a)
	a.check.finish()
	b.check.finish()
}

// drainInto lets the other end read while e closes: it may have a paused
// reader, which would keep e's output for ever.
func (e *crowdEnd) drainInto(peer *crowdEnd) {
	peer.tr.ResumeReading()
	synctest.Wait()
}

// random does one operation.
func (e *crowdEnd) random(r *rand.Rand) {
	switch arg := r.IntN(256); r.IntN(40) {
	case 0:
		e.tr.SetWriteBufferLimits(marksOf(byte(arg)))
	case 1, 2:
		e.tr.SetProtocol(e.protocol(byte(arg)))
	case 3, 4:
		e.tr.CallSoon(func() { e.crowdWrite(arg) })
	case 5:
		e.tr.CallLater(0, func() { e.tr.ResumeReading() })
	case 6, 7, 8:
		e.tr.PauseReading()
	case 9, 10, 11, 12, 13:
		e.tr.ResumeReading()
	case 14:
		e.tr.Writable()
		e.tr.WriteBufferSize()
		e.tr.ExtraInfo(strand.ExtraSocket)
	case 15:
		if r.IntN(8) == 0 {
			e.tr.WriteEOF()
		}
	case 16:
		if r.IntN(12) == 0 {
			e.tr.Close()
		}
	case 17:
		if r.IntN(20) == 0 {
			e.setAborted()
			e.tr.Abort()
		}
	default:
		e.crowdWrite(arg * 4)
	}
}

func (e *crowdEnd) setAborted() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.aborted = true
}

func (e *crowdEnd) crowdWrite(n int) {
	e.write.Lock()
	defer e.write.Unlock()
	k, err := e.tr.Write(pattern(e.accepted, n))
	if err == nil && k != n || err != nil && k != 0 {
		e.t.Errorf("Write of %d bytes returned %d, %v", n, k, err)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, strand.ErrWriteAfterEOF) {
		e.t.Errorf("Write returned %v", err)
	}
	e.accepted += k
}

// wantLaws compares what e has received with what from has sent.
func (e *crowdEnd) wantLaws(from *crowdEnd) {
	require.True(e.t, e.lost, "never lost")
	require.True(e.t, e.got.isPattern(), "law 5: other bytes than were sent")
	require.LessOrEqual(e.t, e.got.len(), from.accepted, "law 5: more bytes than were sent")
	if e.sawEOF && !from.aborted && from.lostErr == nil {
		require.Equal(e.t, from.accepted, e.got.len(), "law 5: an end of file, and not all bytes before it")
	}
	require.True(e.t, e.pauses == e.resumes || e.pauses == e.resumes+1, "law 4: %d pauses, %d resumes", e.pauses, e.resumes)
}

// FuzzFake compares the fake Transport with a real one: the same script makes
// the same callbacks.
func FuzzFake(f *testing.F) {
	f.Add([]byte{0, 5, 1, 0})
	f.Add([]byte{2, 0, 0, 9, 3, 0, 0, 1, 4, 0, 5, 0})
	f.Add([]byte{6, 3, 0, 7, 1, 0, 3, 0, 5, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 200 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			fake, real := fakeTrace(script), realTrace(t, script)
			require.Equal(t, real, fake)
		})
	})
}

// scripted is a Recorder that does what the hook of a script says.
func scripted(script []byte) *Recorder {
	r := new(Recorder)
	hook := 0
	for i := 0; i+1 < len(script); i += 2 {
		if script[i]%8 == 6 {
			hook = int(script[i+1]) % 6
		}
	}
	r.OnData = func(data []byte) {
		t := r.Transport()
		switch hook {
		case 1:
			t.Write(data)
		case 2:
			t.CallSoon(func() { r.note("posted") })
			t.CallSoon(func() { t.PauseReading() })
		case 3:
			t.Close()
			r.note("closed")
		case 4:
			t.CallSoon(func() { r.note("posted") })
			t.Abort()
		}
	}
	r.OnEOF = func() bool { return hook == 5 }
	return r
}

// act does what an operation does to the transport; feed and eof are the
// peer's doing.
func act(tr strand.Transport, r *Recorder, op, arg byte, feed func(int), eof func()) {
	switch op % 8 {
	case 0:
		if tr.IsReading() { // a network joins what waits, the fake does not
			feed(int(arg))
		}
	case 1:
		eof()
	case 2:
		tr.PauseReading()
	case 3:
		tr.ResumeReading()
	case 4:
		tr.CallSoon(func() { r.note("called soon") })
	case 5:
		tr.Close()
	case 7:
		tr.Write(make([]byte, arg))
	}
}

func fakeTrace(script []byte) []string {
	r := scripted(script)
	tr := NewTransport(r)
	for i := 0; i+1 < len(script); i += 2 {
		act(tr, r, script[i], script[i+1], func(n int) { tr.FeedBytes(make([]byte, n), Whole, 0) }, tr.FeedEOF)
		tr.Run()
	}
	tr.Close()
	tr.Run()
	return r.Calls()
}

func realTrace(t *testing.T, script []byte) []string {
	r := scripted(script)
	ours, peer := Pipe(1 << 20) // room for everything: nothing waits for the peer
	tr, _, err := strand.Attach(t.Context(), ours, func() *Recorder { return r }, quietOptions())
	require.NoError(t, err)
	synctest.Wait()
	for i := 0; i+1 < len(script); i += 2 {
		act(tr, r, script[i], script[i+1], func(n int) { peer.Write(make([]byte, n)) }, func() { peer.CloseWrite() })
		synctest.Wait()
	}
	tr.Close()
	<-tr.Done()
	peer.Close()
	return r.Calls()
}
