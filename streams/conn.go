package streams

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Conn makes a net.Conn of a stream, for code that wants one: deadlines work,
// and Write waits for room instead of holding whatever it is given. All methods
// may be called from any goroutine. asyncio has no such thing.
type Conn struct {
	r       *Reader
	w       *Writer
	reading chan struct{} // holds a token while a Read runs
	writing chan struct{} // holds a token while a Write runs
	rd, wd  deadline
}

// NewConn returns a net.Conn over a stream. Reader and Writer may still be used
// themselves: what was received and not read yet is the Conn's to read, too.
func NewConn(r *Reader, w *Writer) *Conn {
	return &Conn{r: r, w: w, reading: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
}

// Read reads as Reader.Read does, until the read deadline. The error matches
// os.ErrDeadlineExceeded then, and net.ErrClosed after Close. If another Read
// is waiting it waits for its turn.
func (c *Conn) Read(p []byte) (int, error) {
	over := c.rd.over()
	if err := c.begin("read", c.reading, &c.rd, over); err != nil {
		return 0, err
	}
	defer func() { <-c.reading }()
	n, err := c.r.read(p, over)
	if err == errCancelled || err == io.EOF && c.rd.isClosed() {
		err = c.opError("read", c.rd.reason())
	}
	return n, err
}

// Write writes p, and waits until the transport has room for it, until the
// write deadline. It returns how much the transport has accepted. The error
// matches os.ErrDeadlineExceeded after the deadline, net.ErrClosed after Close,
// and strand.ErrBufferFull only if WriteBufferMax is not above the high-water
// mark. Like a socket's, this says nothing about what the peer has got.
func (c *Conn) Write(p []byte) (n int, err error) {
	over := c.wd.over()
	if err := c.begin("write", c.writing, &c.wd, over); err != nil {
		return 0, err
	}
	defer func() { <-c.writing }()
	n, err = c.w.writeAll(p, over)
	if err == errCancelled || err != nil && c.wd.isClosed() {
		err = c.opError("write", c.wd.reason())
	}
	return n, err
}

// begin takes the turn, unless the deadline has passed or passes before.
func (c *Conn) begin(op string, turn chan struct{}, d *deadline, over <-chan struct{}) error {
	select {
	case <-over:
		return c.opError(op, d.reason())
	default:
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-over:
		return c.opError(op, d.reason())
	}
}

func (c *Conn) opError(op string, err error) error {
	local, remote := c.LocalAddr(), c.RemoteAddr()
	e := &net.OpError{Op: op, Source: local, Addr: remote, Err: err}
	if local != nil {
		e.Net = local.Network()
	}
	return e
}

// Close closes the stream as Writer.Close does, without waiting, and ends all
// waiting of Read and Write with an error matching net.ErrClosed. A second call
// does nothing. The result is always nil.
func (c *Conn) Close() error {
	c.rd.close()
	c.wd.close()
	return c.w.Close()
}

// CloseWrite is Writer.WriteEOF, under the name that package net gives it.
func (c *Conn) CloseWrite() error { return c.w.WriteEOF() }

// LocalAddr returns the local address.
func (c *Conn) LocalAddr() net.Addr { return c.w.t.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.w.t.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read gives up, also one that waits already. The
// zero time is never. After Close the error matches net.ErrClosed.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if !c.rd.set(t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// SetWriteDeadline sets when Write gives up, also one that waits already. The
// zero time is never. After Close the error matches net.ErrClosed.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.wd.set(t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// deadline is a point in time that can be waited for, and moved meanwhile.
// Closing makes it be now, for ever. It works as the one in net/pipe.go.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer   // mu; the last one, nil if there was none
	passed chan struct{} // mu; closed when the deadline has passed; made when it is needed
	moves  int           // mu; how often it was set
	closed bool          // mu
}

// over returns a channel that is closed when the deadline passes.
func (d *deadline) over() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.overLocked()
}

func (d *deadline) overLocked() chan struct{} {
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}

// set moves the deadline, and returns false if it is closed.
func (d *deadline) set(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.moves++
	d.stopLocked()
	if d.passedLocked() {
		d.passed = nil
	}
	if t.IsZero() {
		return true
	}
	passed := d.overLocked()
	if wait := time.Until(t); wait > 0 {
		move := d.moves
		d.timer = time.AfterFunc(wait, func() { d.pass(move) })
	} else {
		close(passed)
	}
	return true
}

// pass is the timer's: the deadline has passed, if it has not moved.
func (d *deadline) pass(move int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moves == move && !d.closed {
		close(d.passed)
	}
}

func (d *deadline) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.stopLocked()
	if passed := d.overLocked(); !d.passedLocked() {
		close(passed)
	}
}

func (d *deadline) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// reason returns why a call that waited for over was given up.
func (d *deadline) reason() error {
	if d.isClosed() {
		return net.ErrClosed
	}
	return os.ErrDeadlineExceeded
}

func (d *deadline) stopLocked() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) passedLocked() bool {
	select {
	case <-d.passed: // of nil it is not
		return true
	default:
		return false
	}
}

var _ net.Conn = (*Conn)(nil)
