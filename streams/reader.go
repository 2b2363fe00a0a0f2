package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync"

	"github.com/gostrand/strand"
)

// DefaultLimit is a Reader's limit unless the options say something else.
const DefaultLimit = 64 << 10

// Reader is the receiving half of a stream. Its methods wait until they have
// what they were asked for, or until the context, the stream or the connection
// ends. Only one call may wait at a time; another one that would have to wait
// as well returns ErrConcurrentRead. Otherwise all methods may be called from
// any goroutine.
//
// Bytes that were received before an error are read first. When what is left of
// them is not enough for a call, it returns the error, and they stay: Read and
// ReadSome get them.
//
// The limit bounds what ReadLine and ReadUntil return. When more than twice the
// limit is waiting to be read the transport is paused, and the peer has to
// stop sending in the end; it goes on when no more than the limit is left, or
// when a call has to wait. One receive more may come on top of that, which is
// up to 256 KiB. asyncio: StreamReader.
type Reader struct {
	limit int
	wake  chan struct{} // gets a token when woken is set

	mu      sync.Mutex
	t       strand.Transport // mu; nil before ConnectionMade
	in      buffer           // mu
	taken   uint64           // mu; bytes that were read, ever
	eof     bool             // mu; nothing will be added to in
	err     error            // mu; what ended the connection
	paused  bool             // mu; PauseReading was called and not taken back
	waiting bool             // mu; a call waits, or is about to go on
	woken   bool             // mu; its wait is over, and the token sent
	need    int              // mu; how much has to be in the buffer for that
}

// What the protocol does with a Reader.

// feed appends what was received.
func (r *Reader) feed(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.eof {
		return
	}
	r.in.append(data)
	if r.waiting && !r.woken && r.in.len() < r.need {
		return // pausing now would only make the call that waits resume
	}
	r.wakeLocked()
	if !r.paused && r.in.len()-r.limit > r.limit {
		r.paused = true
		r.t.PauseReading()
	}
}

// end notes that no more will come: after an error, if err is one.
func (r *Reader) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	if err == nil {
		r.eof = true
	}
	r.wakeLocked()
}

// stop is the end that we choose: what was received can be read, and no more is
// received.
func (r *Reader) stop() {
	r.end(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = false // so that nobody resumes
	r.t.PauseReading()
}

func (r *Reader) wakeLocked() {
	if r.waiting && !r.woken {
		r.woken = true
		r.wake <- struct{}{}
	}
}

// Waiting.

// errCancelled says that a wait was given up.
var errCancelled = errors.New("streams: cancelled")

// moreLocked waits until need bytes are in the buffer, or for any if need is 0,
// and unlocks mu meanwhile. They may be gone again when it returns, and it may
// return early. The error is the one that ended the connection, io.EOF if there
// will be no more, or errCancelled.
func (r *Reader) moreLocked(op string, need int, cancel <-chan struct{}) error {
	switch {
	case r.err != nil:
		return r.err
	case r.eof:
		return io.EOF
	case r.waiting:
		return fmt.Errorf("streams: %s: %w", op, ErrConcurrentRead)
	}
	r.resumeLocked() // or what is awaited never comes
	r.waiting, r.need = true, need
	r.mu.Unlock()
	var err error
	select {
	case <-r.wake:
	case <-cancel:
		err = errCancelled
	}
	r.mu.Lock()
	if err != nil && r.woken { // what came at the same time counts
		<-r.wake
		err = nil
	}
	r.waiting, r.woken = false, false
	return err
}

// causeFor makes an error for users of one of moreLocked's.
func causeFor(ctx context.Context, err error) error {
	if err == errCancelled {
		return context.Cause(ctx)
	}
	return err
}

func (r *Reader) resumeLocked() {
	if r.paused {
		r.paused = false
		r.t.ResumeReading()
	}
}

// tookLocked follows every removal of n bytes from the buffer.
func (r *Reader) tookLocked(n int) {
	r.taken += uint64(n)
	if r.in.len() <= r.limit {
		r.resumeLocked()
	}
}

func (r *Reader) takeLocked(n int) []byte {
	p := r.in.take(n)
	r.tookLocked(n)
	return p
}

// What users do with it.

// Read reads at least one and at most len(p) bytes into p. It waits for the
// first of them, without a limit in time: [NewConn] gives a stream deadlines,
// and ReadSome takes a context. At the end of the stream it returns io.EOF. If
// p is empty it returns 0, nil at once. asyncio: read.
func (r *Reader) Read(p []byte) (int, error) { return r.read(p, nil) }

func (r *Reader) read(p []byte, cancel <-chan struct{}) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.in.len() == 0 {
		if err := r.moreLocked("Read", 1, cancel); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.in.bytes())
	r.in.consume(n)
	r.tookLocked(n)
	return n, nil
}

// ReadSome returns at least one and at most n bytes, which belong to the
// caller. It waits for the first of them. At the end of the stream it returns
// nil and io.EOF. If n is 0 it returns nothing at once; if n is negative it is
// ReadAll. The limit does not matter. asyncio: read(n).
func (r *Reader) ReadSome(ctx context.Context, n int) ([]byte, error) {
	switch {
	case n < 0:
		return r.ReadAll(ctx)
	case n == 0:
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.in.len() == 0 {
		if err := r.moreLocked("ReadSome", 1, ctx.Done()); err != nil {
			return nil, causeFor(ctx, err)
		}
	}
	return r.takeLocked(min(n, r.in.len())), nil
}

// ReadAll returns everything until the end of the stream, which it waits for.
// The bytes belong to the caller. If the connection ends with an error, it
// returns what came before together with that; if ctx ends, everything stays in
// the Reader. The limit does not matter, so that the peer chooses how much
// memory this takes. asyncio: read(-1).
func (r *Reader) ReadAll(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.eof && r.err == nil {
		if err := r.moreLocked("ReadAll", math.MaxInt, ctx.Done()); err != nil {
			return nil, causeFor(ctx, err)
		}
	}
	return r.takeLocked(r.in.len()), r.err
}

// ReadExactly returns n bytes, which belong to the caller, and waits for them.
// n may be more than the limit; a negative n is an error. If the stream ends
// before, the error is an *IncompleteReadError with what there was. asyncio:
// readexactly.
func (r *Reader) ReadExactly(ctx context.Context, n int) ([]byte, error) {
	switch {
	case n < 0:
		return nil, fmt.Errorf("streams: ReadExactly of %d bytes", n)
	case n == 0:
		return []byte{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.in.len() < n {
		err := r.moreLocked("ReadExactly", n, ctx.Done())
		if err == io.EOF {
			return nil, &IncompleteReadError{Partial: r.takeLocked(r.in.len()), Expected: n}
		}
		if err != nil {
			return nil, causeFor(ctx, err)
		}
	}
	return r.takeLocked(n), nil
}

// ReadUntil returns everything up to and including a separator, as memory of
// the caller's, and waits for it. Of several separators it is the one that ends
// first, whatever its length, and the shortest of those that end there. No
// separator and an empty one are errors.
//
// If the stream ends before, the error is an *IncompleteReadError with what
// there was. If there are more bytes than the limit and no separator among
// them, or one behind more bytes than the limit, which the separator itself does
// not count for, it is a *LimitOverrunError, and the bytes stay in the Reader.
// asyncio: readuntil.
func (r *Reader) ReadUntil(ctx context.Context, separators ...[]byte) ([]byte, error) {
	seps, err := newSeparators(separators)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.readUntilLocked(ctx, "ReadUntil", seps)
}

func (r *Reader) readUntilLocked(ctx context.Context, op string, seps separators) ([]byte, error) {
	from, taken := 0, r.taken // no separator begins before from
	for {
		if r.taken != taken { // another call has got something while this one waited
			from, taken = 0, r.taken
		}
		start, end := seps.find(r.in.bytes(), from)
		if end > 0 && start <= r.limit {
			return r.takeLocked(end), nil
		}
		if end > 0 {
			return nil, &LimitOverrunError{Consumed: start, Found: true}
		}
		if from = max(0, r.in.len()+1-seps.longest()); from > r.limit {
			return nil, &LimitOverrunError{Consumed: from}
		}
		err := r.moreLocked(op, 0, ctx.Done())
		if err == io.EOF {
			return nil, &IncompleteReadError{Partial: r.takeLocked(r.in.len())}
		}
		if err != nil {
			return nil, causeFor(ctx, err)
		}
	}
}

var newline = separators{{'\n'}}

// ReadLine returns one line with its "\n", as memory of the caller's, and waits
// for it. What stands at the end of the stream without a "\n" is a line, too;
// after it comes nil and io.EOF.
//
// If the line is longer than the limit, the error is a *LimitOverrunError, and
// the line is lost: all of it, or as much of it as there is if its end has not
// come yet. asyncio: readline.
func (r *Reader) ReadLine(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := r.readUntilLocked(ctx, "ReadLine", newline)
	switch e := err.(type) {
	case *IncompleteReadError:
		if len(e.Partial) == 0 {
			return nil, io.EOF
		}
		return e.Partial, nil
	case *LimitOverrunError:
		r.dropLineLocked(e)
	}
	return line, err
}

func (r *Reader) dropLineLocked(e *LimitOverrunError) {
	n := r.in.len()
	if e.Found {
		n = e.Consumed + len(newline[0])
	}
	r.in.consume(n)
	r.tookLocked(n)
}

// Lines returns an iterator over the lines, as ReadLine returns them, until the
// end of the stream. An error is the last thing it yields; another call goes on
// where it stopped. asyncio: async for.
func (r *Reader) Lines(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			line, err := r.ReadLine(ctx)
			if err == io.EOF || !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// AtEOF reports whether the stream has ended and everything before its end was
// read. It does not wait. asyncio: at_eof.
func (r *Reader) AtEOF() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.eof && r.in.len() == 0
}

// Buffered returns the number of bytes that can be read without waiting.
// asyncio has no such thing.
func (r *Reader) Buffered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.len()
}

// Limit returns the limit, in bytes. asyncio: the limit argument.
func (r *Reader) Limit() int { return r.limit }

// Err returns the error that ended the connection, and nil while it lives and
// after a clean end. There may still be bytes to read. asyncio: exception.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

var _ io.Reader = (*Reader)(nil)
