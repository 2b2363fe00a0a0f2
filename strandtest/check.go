package strandtest

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/gostrand/strand"
)

// CheckOptions are the settings of CheckWith. The zero value is what Check
// does.
type CheckOptions struct {
	// TransportOnly checks what the transport does and not what the protocol
	// does, which is given the transport itself. StartTLS and Sendfile accept
	// nothing else.
	TransportOnly bool
}

// Check returns a Protocol that passes everything on to p and fails the test
// when one of the laws of a connection is broken: callbacks that overlap or
// nest, come before ConnectionMade or after ConnectionLost, data after the end
// of file, pauses and resumes that do not alternate. It also fails the test when
// p
//
//   - keeps the slice given to DataReceived, which is found out at the end of
//     the test, by whether the garbage collector can free it (of the first 1000);
//     p always gets a copy, which is overwritten when DataReceived returns;
//   - goes on writing after the end of the connection, without heeding the
//     error that matches net.ErrClosed: the fifth such Write fails the test;
//   - has paused reading and not resumed it once when the test ends, although
//     its output is not paused and it did not close the connection itself.
//
// To see what p does, it gives p a wrapped transport, whose SetProtocol keeps
// checking the new protocol, and which StartTLS and Sendfile do not accept; for
// them see CheckOptions. If p has the methods of a BufferedProtocol or of a
// ShutdownRequester, so has the result. What is found after the end of the test
// is not reported.
func Check(t testing.TB, p strand.Protocol) strand.Protocol { return CheckWith(t, p, nil) }

// CheckWith is Check with options, which may be nil.
func CheckWith(t testing.TB, p strand.Protocol, opts *CheckOptions) strand.Protocol {
	c := &checker{t: t}
	if opts != nil {
		c.opts = *opts
	}
	t.Cleanup(c.finish)
	return c.wrap(p)
}

// checker is the state of a connection as the checked protocols should see it.
type checker struct {
	t    testing.TB
	opts CheckOptions

	mu        sync.Mutex
	inside    string // the callback that runs
	made      bool
	eof       bool
	lost      bool
	paused    bool // PauseWriting was the last of the two
	over      bool // the test is over: nothing is reported any more
	lateWrite int  // writes after the end was told
	stopped   bool // the protocol has paused reading
	resumed   bool // and has ever resumed it
	closed    bool // and has closed or aborted
	lent      []weak.Pointer[[minLent]byte]
	protocols []strand.Protocol // all of them: what they keep is looked for when nobody else may hold them any more
}

// minLent is the size from which the garbage collector looks at an object by
// itself: smaller ones share their memory with others.
const minLent = 64

// maxLent bounds how many slices are followed.
const maxLent = 1000

// maxLateWrites is how many writes after the end are nobody's mistake.
const maxLateWrites = 4

func (c *checker) failf(format string, args ...any) {
	c.t.Helper()
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	if !over {
		c.t.Errorf("strandtest: "+format, args...)
	}
}

// enter checks that a callback may come now, and returns what to do when it
// returns.
func (c *checker) enter(call string) func() {
	c.mu.Lock()
	var wrong []string
	switch {
	case c.inside != "":
		wrong = append(wrong, fmt.Sprintf("%s came while %s was running", call, c.inside))
	case c.lost:
		wrong = append(wrong, call+" came after ConnectionLost")
	case call == "ConnectionMade" && c.made:
		wrong = append(wrong, "ConnectionMade came twice")
	case call != "ConnectionMade" && !c.made:
		wrong = append(wrong, call+" came before ConnectionMade")
	}
	wrong = append(wrong, c.changeLocked(call)...)
	before := c.inside
	c.inside = call
	c.mu.Unlock()
	for _, w := range wrong {
		c.failf("%s", w)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inside = before
	}
}

// changeLocked notes what a callback says about the connection, and returns
// what is wrong with that.
func (c *checker) changeLocked(call string) (wrong []string) {
	switch call {
	case "ConnectionMade":
		c.made = true
	case "DataReceived", "BufferUpdated":
		if c.eof {
			wrong = append(wrong, "data came after EOFReceived")
		}
	case "EOFReceived":
		if c.eof {
			wrong = append(wrong, "EOFReceived came twice")
		}
		c.eof = true
	case "PauseWriting", "ResumeWriting":
		if pause := call == "PauseWriting"; pause == c.paused {
			wrong = append(wrong, call+" came twice in a row, or ResumeWriting first")
		}
		c.paused = !c.paused
	case "ConnectionLost":
		c.lost = true
	}
	return wrong
}

// copyOf returns a copy of data for the protocol, which is followed.
func (c *checker) copyOf(data []byte) []byte {
	size := max(len(data), minLent)
	p := make([]byte, size)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lent) < maxLent {
		c.lent = append(c.lent, weak.Make((*[minLent]byte)(unsafe.Pointer(unsafe.SliceData(p)))))
	}
	return p[:copy(p, data):len(data)]
}

// finish looks at what is left at the end of the test.
func (c *checker) finish() {
	if c.opts.TransportOnly {
		c.setOver()
		return
	}
	if kept := c.kept(); kept > 0 {
		c.failf("the protocol keeps the slice given to DataReceived (%d times), which is only valid until the call returns", kept)
	}
	c.mu.Lock()
	never := c.stopped && !c.resumed && !c.paused && !c.closed
	c.mu.Unlock()
	if never {
		c.failf("the protocol paused reading and never resumed it")
	}
	c.setOver()
}

func (c *checker) setOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// kept counts the lent slices that somebody still holds.
func (c *checker) kept() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lent) == 0 {
		return 0
	}
	runtime.GC()
	for _, p := range c.lent {
		if p.Value() != nil {
			n++
		}
	}
	runtime.KeepAlive(c.protocols)
	return n
}

// The protocols that Check returns: one type for each set of abilities.

type checkedProtocol struct {
	c *checker
	p strand.Protocol
}

type checkedBuffered struct {
	checkedProtocol
	b strand.BufferedProtocol
}

type checkedShutdown struct {
	checkedProtocol
	strand.ShutdownRequester
}

type checkedBufferedShutdown struct {
	checkedBuffered
	strand.ShutdownRequester
}

func (c *checker) wrap(p strand.Protocol) strand.Protocol {
	if !c.opts.TransportOnly {
		c.mu.Lock()
		c.protocols = append(c.protocols, p)
		c.mu.Unlock()
	}
	plain := checkedProtocol{c, p}
	b, buffered := p.(strand.BufferedProtocol)
	s, shutdown := p.(strand.ShutdownRequester)
	switch {
	case buffered && shutdown:
		return &checkedBufferedShutdown{checkedBuffered{plain, b}, s}
	case buffered:
		return &checkedBuffered{plain, b}
	case shutdown:
		return &checkedShutdown{plain, s}
	}
	return &plain
}

// unwrap returns the protocol that p checks, or p.
func unwrap(p strand.Protocol) strand.Protocol {
	if c, ok := p.(interface{ checked() strand.Protocol }); ok {
		return c.checked()
	}
	return p
}

func (k *checkedProtocol) checked() strand.Protocol { return k.p }

func (k *checkedProtocol) ConnectionMade(t strand.Transport) {
	defer k.c.enter("ConnectionMade")()
	if !k.c.opts.TransportOnly {
		t = &checkedTransport{t, k.c}
	}
	k.p.ConnectionMade(t)
}

func (k *checkedProtocol) DataReceived(data []byte) {
	defer k.c.enter("DataReceived")()
	if len(data) == 0 || len(data) > 256<<10 {
		k.c.failf("DataReceived of %d bytes", len(data))
	}
	if k.c.opts.TransportOnly {
		k.p.DataReceived(data)
		return
	}
	p := k.c.copyOf(data)
	defer poison(p)
	k.p.DataReceived(p)
}

func (k *checkedProtocol) EOFReceived() bool {
	defer k.c.enter("EOFReceived")()
	return k.p.EOFReceived()
}

func (k *checkedProtocol) PauseWriting() {
	defer k.c.enter("PauseWriting")()
	k.p.PauseWriting()
}

func (k *checkedProtocol) ResumeWriting() {
	defer k.c.enter("ResumeWriting")()
	k.p.ResumeWriting()
}

func (k *checkedProtocol) ConnectionLost(err error) {
	defer k.c.enter("ConnectionLost")()
	k.p.ConnectionLost(err)
}

func (k *checkedBuffered) DataReceived(data []byte) {
	k.c.failf("DataReceived was called on a BufferedProtocol")
	k.checkedProtocol.DataReceived(data)
}

func (k *checkedBuffered) GetBuffer(sizeHint int) []byte {
	defer k.c.enter("GetBuffer")()
	return k.b.GetBuffer(sizeHint)
}

func (k *checkedBuffered) BufferUpdated(n int) {
	defer k.c.enter("BufferUpdated")()
	if n <= 0 {
		k.c.failf("BufferUpdated(%d)", n)
	}
	k.b.BufferUpdated(n)
}

// checkedTransport sees what a protocol does with its transport.
type checkedTransport struct {
	strand.Transport
	c *checker
}

func (w *checkedTransport) Write(p []byte) (int, error) {
	n, err := w.Transport.Write(p)
	w.wrote(err)
	return n, err
}

func (w *checkedTransport) WriteLines(bufs ...[]byte) (int, error) {
	n, err := w.Transport.WriteLines(bufs...)
	w.wrote(err)
	return n, err
}

func (w *checkedTransport) wrote(err error) {
	if !errors.Is(err, net.ErrClosed) {
		return
	}
	w.c.mu.Lock()
	w.c.lateWrite++
	late := w.c.lateWrite
	w.c.mu.Unlock()
	if late == maxLateWrites+1 {
		w.c.failf("the protocol goes on writing after the end of the connection, and ignores the error: %v", err)
	}
}

func (w *checkedTransport) Close() error {
	w.note(&w.c.closed)
	return w.Transport.Close()
}

func (w *checkedTransport) Abort() {
	w.note(&w.c.closed)
	w.Transport.Abort()
}

func (w *checkedTransport) PauseReading() {
	w.note(&w.c.stopped)
	w.Transport.PauseReading()
}

func (w *checkedTransport) ResumeReading() {
	w.note(&w.c.resumed)
	w.Transport.ResumeReading()
}

func (w *checkedTransport) note(what *bool) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	*what = true
}

func (w *checkedTransport) CallSoon(fn func()) bool { return w.Transport.CallSoon(w.c.posted(fn)) }

func (w *checkedTransport) CallLater(d time.Duration, fn func()) *strand.Timer {
	return w.Transport.CallLater(d, w.c.posted(fn))
}

// posted checks that a func runs in turn with the callbacks.
func (c *checker) posted(fn func()) func() {
	return func() {
		defer c.enter("a func of CallSoon or CallLater")()
		fn()
	}
}

func (w *checkedTransport) SetProtocol(p strand.Protocol) {
	if p != nil { // otherwise the transport panics
		p = w.c.wrap(p)
	}
	w.Transport.SetProtocol(p)
}

func (w *checkedTransport) Protocol() strand.Protocol { return unwrap(w.Transport.Protocol()) }

var (
	_ strand.BufferedProtocol  = (*checkedBuffered)(nil)
	_ strand.ShutdownRequester = (*checkedShutdown)(nil)
	_ strand.Transport         = (*checkedTransport)(nil)
)
