package streams

import (
	"context"
	"io"
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
// a flush. Any number of goroutines may wait in it.
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

// roomToCome returns what to wait for until there is room, or nil if there is
// nothing to wait for.
func (p *Protocol) roomToCome() (resumed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.writer.t
	switch {
	case t.IsClosing():
		// A loop of Write and Drain has to end when the peer is gone, even if it
		// does not look at Write's error. The end may be decided before
		// ConnectionLost comes (SW-05).
		if err := context.Cause(t.Context()); err != nil || !p.paused {
			return nil, err
		}
	case t.Writable():
		return nil, nil // since the first look
	}
	// The mark was crossed, whether PauseWriting was here yet or not, so that
	// ResumeWriting or ConnectionLost will come.
	if p.resumed == nil {
		p.resumed = make(chan struct{})
	}
	return p.resumed, nil
}

// copyBuffers is the memory of ReadFrom.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom writes all that src has, and waits for room after each piece, so
// that io.Copy to a Writer holds little memory. It returns src's error, unless
// that is io.EOF, or the connection's. There is no limit in time but the
// transport's WriteTimeout.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		k, rerr := src.Read(buf[:])
		if k > 0 {
			if _, err := w.t.Write(buf[:k]); err != nil {
				return n, err
			}
			n += int64(k)
			if err := w.drain(nil); err != nil {
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
// holds bytes: they may have been injected. Only what looks like the beginning
// of a client's handshake is given to a server's, because clients send it as
// soon as they are told to. If the handshake fails the connection ends with the
// same error, and if ctx ends before, the connection is aborted and ctx's cause
// returned. Once is enough: a second call makes TLS inside TLS. asyncio:
// start_tls.
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

// handshakeRecord is the first byte of a TLS session (RFC 8446, section 5.1).
const handshakeRecord = 0x16

// beginTLS starts the handshake, if the Reader holds nothing but the beginning
// of it. Plaintext that was injected behind that byte is no danger: it makes
// the handshake fail, and never becomes something that the Reader returns.
func (p *Protocol) beginTLS(o *strand.TLSOptions, done func(error)) error {
	r := &p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.in.bytes()
	if len(held) > 0 {
		if !o.ServerSide || held[0] != handshakeRecord || len(o.Prefix) > 0 {
			return strand.ErrPlaintextPending
		}
		o.Prefix = held // StartTLS copies it
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
