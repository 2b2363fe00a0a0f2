package streams

import (
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/gostrand/strand"
)

// Protocol is the strand.Protocol that makes a stream of a connection. The
// functions of this package use it; use it yourself with the entry points of
// package strand that they do not cover:
//
//	_, p, err := strand.ConnectPipe(ctx, os.Stdin, os.Stdout, func() *streams.Protocol {
//		return streams.NewProtocol(0)
//	}, nil)
//	r, w := p.Reader(), p.Writer()
//
// Its callbacks are the transport's to call. But SetProtocol, with which a
// connection goes on as a stream, or a child's pipe becomes one, calls no
// ConnectionMade: call it yourself right before, in a callback, and DataReceived
// if bytes are left that belong to the stream. asyncio: StreamReaderProtocol.
type Protocol struct {
	reader Reader
	writer Writer

	// Fixed before ConnectionMade.
	handler    func(*Reader, *Writer) // nil: none
	log        *slog.Logger           // for the handler's panics
	host       string                 // what was connected to, "" if that is not known
	serverSide bool                   // of a TLS connection this is the server

	// What Drain waits for.
	mu      sync.Mutex
	paused  bool          // mu; between PauseWriting and ResumeWriting
	cause   error         // mu; what ConnectionLost was called with
	resumed chan struct{} // mu; closed by ResumeWriting and ConnectionLost; nil if nobody waits
}

// NewProtocol returns a protocol for one connection. limit is the Reader's; 0
// is DefaultLimit, and it panics if limit is negative.
func NewProtocol(limit int) *Protocol {
	if err := checkLimit(limit); err != nil {
		panic(err)
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	p := new(Protocol)
	p.reader.limit = limit
	p.reader.wake = make(chan struct{}, 1)
	p.writer.p = p
	return p
}

// Reader returns the stream's Reader.
func (p *Protocol) Reader() *Reader { return &p.reader }

// Writer returns the stream's Writer. It may only be used once the entry point
// that got the protocol has returned.
func (p *Protocol) Writer() *Writer { return &p.writer }

// ConnectionMade starts the handler, if there is one.
func (p *Protocol) ConnectionMade(t strand.Transport) {
	p.reader.mu.Lock()
	p.reader.t = t
	p.reader.mu.Unlock()
	p.writer.t = t
	if p.handler != nil {
		go p.serve()
	}
}

// serve runs the handler, whose end closes the connection.
func (p *Protocol) serve() {
	defer p.writer.Close()
	defer func() {
		// After runtime.Goexit this is nil: that is how a goroutine is
		// cancelled, and not a failure.
		if v := recover(); v != nil {
			err := &strand.PanicError{Value: v, Stack: debug.Stack()}
			p.log.Error("streams: handler panicked", "error", err, "stack", string(err.Stack), "transport", p.writer.t)
		}
	}()
	p.handler(&p.reader, &p.writer)
}

// DataReceived appends data to what the Reader has.
func (p *Protocol) DataReceived(data []byte) { p.reader.feed(data) }

// EOFReceived ends what the Reader gets. The Writer stays usable, except over
// TLS, which has no half-open connections: whoever sees the end there finds the
// connection closing.
func (p *Protocol) EOFReceived() (keepOpen bool) {
	keepOpen = p.writer.t.ExtraInfo(strand.ExtraSSLContext) == nil
	if !keepOpen {
		p.writer.t.Close()
	}
	p.reader.end(nil)
	return keepOpen
}

// ShutdownRequested lets a handler finish: to its Reader the stream ends, its
// Writer goes on. A stream without a handler is closed.
func (p *Protocol) ShutdownRequested() {
	if p.handler == nil {
		p.writer.Close()
		return
	}
	p.reader.stop()
}

// PauseWriting makes Drain wait.
func (p *Protocol) PauseWriting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
}

// ResumeWriting ends the waiting of Drain, unless the mark has been crossed again
// by somebody who has seen before us that there is room.
func (p *Protocol) ResumeWriting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = false
	if t := p.writer.t; t.Writable() || !t.CallSoon(p.wakeUnlessPaused) {
		p.wakeLocked()
	}
}

// ConnectionLost ends the stream, and all waiting.
func (p *Protocol) ConnectionLost(err error) {
	p.reader.end(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = err
	p.wakeLocked()
}

func (p *Protocol) wakeLocked() {
	if p.resumed != nil {
		close(p.resumed)
		p.resumed = nil
	}
}

var (
	_ strand.Protocol          = (*Protocol)(nil)
	_ strand.ShutdownRequester = (*Protocol)(nil)
)
