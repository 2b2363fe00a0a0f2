package streams

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/gostrand/strand"
)

// Writer is the sending half of a stream. All methods may be called from any
// goroutine; none but Drain, WaitClosed, StartTLS and ReadFrom waits for
// anything. What is written by several goroutines at the same time comes out
// in some order, each call in one piece.
//
// A Writer that is dropped without Close leaves the connection open, because the
// connection's own goroutine keeps it. asyncio: StreamWriter.
type Writer struct {
	p *Protocol
	t strand.Transport // fixed in ConnectionMade
}

// Transport returns the connection's transport. asyncio: transport.
func (w *Writer) Transport() strand.Transport { return w.t }

// Write is the transport's: it never blocks, does not keep p, accepts all or
// nothing, and holds what the kernel does not take. Call Drain after it unless
// the whole of what is written is small. asyncio: write.
func (w *Writer) Write(p []byte) (int, error) { return w.t.Write(p) }

// WriteLines is Write for several pieces. Nothing is put between them. asyncio:
// writelines.
func (w *Writer) WriteLines(bufs ...[]byte) (int, error) { return w.t.WriteLines(bufs...) }

// WriteEOF closes the sending side after everything written before; the Reader
// goes on. It returns errors.ErrUnsupported if the connection cannot do that,
// as TLS. asyncio: write_eof.
func (w *Writer) WriteEOF() error { return w.t.WriteEOF() }

// CanWriteEOF reports whether WriteEOF is possible. asyncio: can_write_eof.
func (w *Writer) CanWriteEOF() bool { return w.t.CanWriteEOF() }

// ExtraInfo returns what the transport knows under one of strand's Extra names.
// asyncio: get_extra_info.
func (w *Writer) ExtraInfo(name string) any { return w.t.ExtraInfo(name) }

// IsClosing reports whether the end of the connection has begun. asyncio:
// is_closing.
func (w *Writer) IsClosing() bool { return w.t.IsClosing() }

// Close ends the connection: what was written still goes out, nothing more is
// received, and a read that waits gets the end of the stream. It does not wait,
// which WaitClosed does. A second call does nothing. The result is always nil.
// asyncio: close.
func (w *Writer) Close() error { return w.t.Close() }

// WaitClosed waits until the connection has ended, and returns the error that
// ended it, at every call, or nil for a clean end. It closes nothing itself. If
// ctx ends before, it returns its cause. asyncio: wait_closed.
func (w *Writer) WaitClosed(ctx context.Context) error {
	done := w.t.Done()
	select {
	case <-done: // wins over a context that has ended as well
		return w.p.lostCause()
	default:
	}
	select {
	case <-done:
		return w.p.lostCause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Protocol) lostCause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// Drain waits until there is room for more output: from when more than the
// high-water mark is held until no more than the low-water mark is. That is not
// a flush. After WriteEOF, during a Sendfile and while the connection is closing
// that is the same: it does not ask whether Write would be refused. Any number
// of goroutines may wait in it.
//
// It returns the error that ended the connection, an error matching
// net.ErrClosed if it has ended cleanly, and nil if that happens while it
// waits. If ctx ends before, it returns its cause. asyncio: drain.
func (w *Writer) Drain(ctx context.Context) error { return causeFor(ctx, w.drain(ctx.Done())) }

func (w *Writer) drain(cancel <-chan struct{}) error {
	if w.t.Writable() {
		return nil
	}
	resumed, err := w.p.roomToCome()
	if resumed == nil {
		return err
	}
	select {
	case <-resumed:
	default:
		select {
		case <-resumed:
		case <-cancel:
			return errCancelled
		}
	}
	return w.p.lostCause() // nil, if it was ResumeWriting
}

// roomToCome returns what to wait for until there is room, or nil if the
// connection has ended.
//
// That the transport is not Writable does not tell why. Over the mark it has
// called PauseWriting, or is about to; after WriteEOF, during a Sendfile and
// while it is closing it may never have reason to. In turn the two can be told
// apart, because crossings of the marks go before posted funcs.
func (p *Protocol) roomToCome() (resumed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.writer.t
	if t.IsClosing() {
		// A loop of Write and Drain has to end when the peer is gone, even if it
		// does not look at Write's error. The end may be decided before
		// ConnectionLost comes (SW-05).
		if err := context.Cause(t.Context()); err != nil {
			return nil, err
		}
	}
	if !p.paused && !t.CallSoon(p.wakeUnlessPaused) {
		return nil, context.Cause(t.Context()) // the end was decided meanwhile
	}
	if p.resumed == nil {
		p.resumed = make(chan struct{})
	}
	return p.resumed, nil
}

// wakeUnlessPaused runs in turn: if output is not paused, nobody has to wait.
func (p *Protocol) wakeUnlessPaused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		p.wakeLocked()
	}
}

// chunkSize is how much writeAll gives to a transport that holds nothing.
const chunkSize = 64 << 10

// writeAll writes p in pieces, and waits for room before each of them. It
// returns how much the transport has accepted.
func (w *Writer) writeAll(p []byte, cancel <-chan struct{}) (n int, err error) {
	for {
		if err := w.drain(cancel); err != nil {
			return n, err
		}
		k, err := w.t.Write(p[n:min(len(p), n+w.room())])
		if n += k; err != nil || n == len(p) {
			return n, err
		}
	}
}

// room returns how much may be written now: until one byte more than the
// high-water mark is held, and no more, so that a WriteBufferMax above the mark
// refuses nothing.
func (w *Writer) room() int {
	held := w.t.WriteBufferSize()
	if held == 0 {
		return chunkSize // of which the kernel takes most
	}
	_, high := w.t.WriteBufferLimits()
	return max(high-held, 0) + 1
}

// copyBuffers is the memory of ReadFrom.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom writes all that src has, and waits for room before each piece, so
// that io.Copy to a Writer holds little memory. It returns how much the
// transport has accepted, and src's error, unless that is io.EOF, or the
// connection's. There is no limit in time but the transport's WriteTimeout.
// asyncio has no such thing.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		k, rerr := src.Read(buf[:])
		if k > 0 {
			written, err := w.writeAll(buf[:k], nil)
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		switch rerr {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, rerr
		}
	}
}

// StartTLS waits for room as Drain does, makes the connection go on as a TLS
// connection, and waits for the end of the handshake. Reader and Writer stay
// the same. opts may be nil. A stream of StartServer is the server of the
// session, others the client unless opts says ServerSide; ServerName defaults
// to the host that OpenConnection connected to.
//
// It returns strand.ErrPlaintextPending, and changes nothing, if the Reader
// holds bytes: they may have been injected. One thing is let through. A client
// begins as soon as it is told to, maybe before the server has called StartTLS;
// so what the Reader of the session's server holds becomes TLSOptions.Prefix if
// its first byte is 0x16, the first of every TLS session. If opts has a Prefix
// already, what the Reader holds is the rest of it. Nobody reads it as
// plaintext: what is no ClientHello fails the handshake.
//
// If the handshake fails the connection ends with the same error. If ctx ends
// before the handshake is over, its cause is returned and the connection
// aborted, unless StartTLS still waits for room: then nothing is changed. A
// second call makes TLS inside TLS. asyncio: start_tls.
func (w *Writer) StartTLS(ctx context.Context, opts *strand.TLSOptions) error {
	if err := w.Drain(ctx); err != nil {
		return err
	}
	o := w.p.tlsOptions(opts)
	done := make(chan error, 1)
	begin := func() { // in turn, so that nothing is received between the look and the beginning
		if err := w.p.beginTLS(o, func(err error) { done <- err }); err != nil {
			done <- err
		}
	}
	if !w.t.CallSoon(begin) {
		return errLost
	}
	select { // done is always answered, by the connection's end at the latest
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // what came at the same time counts
		return err
	default:
		w.t.Abort()
		return context.Cause(ctx)
	}
}

// handshakeRecord is the first byte that a client of TLS sends (RFC 8446,
// section 5.1).
const handshakeRecord = 0x16

// beginTLS starts the handshake, if the Reader holds nothing but the beginning
// of it.
func (p *Protocol) beginTLS(o *strand.TLSOptions, done func(error)) error {
	r := &p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.in.bytes()
	if len(held) > 0 {
		if len(o.Prefix) == 0 && (!o.ServerSide || held[0] != handshakeRecord) {
			return strand.ErrPlaintextPending
		}
		o.Prefix = slices.Concat(o.Prefix, held)
	}
	if err := strand.StartTLS(p.writer.t, o, done); err != nil {
		return err
	}
	r.in.consume(len(held))
	r.tookLocked(len(held))
	return nil
}

// tlsOptions fills in what the stream knows.
func (p *Protocol) tlsOptions(opts *strand.TLSOptions) *strand.TLSOptions {
	var o strand.TLSOptions
	if opts != nil {
		o = *opts
	}
	o.ServerSide = o.ServerSide || p.serverSide
	if o.ServerName == "" && (o.Config == nil || o.Config.ServerName == "") {
		o.ServerName = p.host
	}
	return &o
}

var (
	_ io.WriteCloser = (*Writer)(nil)
	_ io.ReaderFrom  = (*Writer)(nil)
)
