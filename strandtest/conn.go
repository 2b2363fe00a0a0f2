package strandtest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// defaultCapacity is what one direction of an in-memory connection holds.
const defaultCapacity = 64 << 10

// Addr is an address of the in-memory network: a name.
type Addr string

// Network returns "memory".
func (Addr) Network() string { return "memory" }

// String returns the name.
func (a Addr) String() string { return string(a) }

// Conn is one end of an in-memory connection, which behaves like a TCP
// connection with a buffer of known size and no network in between: what is
// written can be read at once, Write waits while the buffer is full, each
// direction is closed by itself, and an end that is closed with unread input
// resets the connection. All waiting is on channels.
//
// All methods may be called from any goroutine. Errors are *net.OpErrors that
// match net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET or
// syscall.EPIPE; the end of the input is io.EOF itself.
type Conn struct {
	l             *link
	i             int // which end this is
	local, remote Addr
	turn          chan struct{} // has an element while nobody writes: each Write is whole
	rd, wd        deadline
}

// link is a connection: two directions, one lock.
type link struct {
	mu      sync.Mutex
	changed chan struct{} // closed when something below changes; nil while nobody waits for that
	dirs    [2]direction  // dirs[i] is what end i sends
	closed  [2]bool       // end i was closed
	broken  bool          // reset
}

// direction is one of a link's two, guarded by its lock.
type direction struct {
	buf      []byte // written and not read
	capacity int
	fin      bool // nothing more will be written
}

// Pipe returns the two ends of a new in-memory connection, each direction of
// which holds capacity bytes; zero or negative means 64 KiB.
func Pipe(capacity int) (a, b *Conn) { return pipeBetween("a", "b", capacity) }

func pipeBetween(a, b Addr, capacity int) (*Conn, *Conn) {
	if capacity <= 0 {
		capacity = defaultCapacity
	}
	l := new(link)
	l.dirs[0].capacity, l.dirs[1].capacity = capacity, capacity
	return newConn(l, 0, a, b), newConn(l, 1, b, a)
}

func newConn(l *link, i int, local, remote Addr) *Conn {
	c := &Conn{l: l, i: i, local: local, remote: remote, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// tellLocked wakes whoever waits for a change.
func (l *link) tellLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// waitLocked returns a channel that is closed with the next change.
func (l *link) waitLocked() <-chan struct{} {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// Read reads what is there, at least one byte, and waits if nothing is. What
// was written before a reset is read before the error.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		n, changed, err := c.tryRead(p)
		if changed == nil {
			return n, c.opError("read", err)
		}
		select {
		case <-changed:
		case <-c.rd.wait():
		}
	}
}

// tryRead is Read without waiting. If there is nothing to say yet it returns
// the channel to wait for.
func (c *Conn) tryRead(p []byte) (n int, changed <-chan struct{}, err error) {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	in := &l.dirs[1-c.i]
	switch {
	case l.closed[c.i]:
		return 0, nil, net.ErrClosed
	case c.rd.past():
		return 0, nil, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil, nil
	case len(in.buf) > 0:
		n = copy(p, in.buf)
		if in.buf = in.buf[n:]; len(in.buf) == 0 {
			in.buf = nil
		}
		l.tellLocked()
		return n, nil, nil
	case l.broken:
		return 0, nil, syscall.ECONNRESET
	case in.fin:
		return 0, nil, io.EOF
	}
	return 0, l.waitLocked(), nil
}

// Write writes all of p, waiting while the buffer is full, and does not keep
// it. An error comes with the number of bytes written before it.
func (c *Conn) Write(p []byte) (int, error) {
	select {
	case <-c.turn:
	case <-c.wd.wait():
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	}
	defer func() { c.turn <- struct{}{} }()
	written := 0
	for {
		n, changed, err := c.tryWrite(p[written:])
		written += n
		if err != nil || written == len(p) {
			return written, c.opError("write", err)
		}
		select {
		case <-changed:
		case <-c.wd.wait():
		}
	}
}

// tryWrite is Write without waiting.
func (c *Conn) tryWrite(p []byte) (n int, changed <-chan struct{}, err error) {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &l.dirs[c.i]
	switch {
	case l.closed[c.i]:
		return 0, nil, net.ErrClosed
	case c.wd.past():
		return 0, nil, os.ErrDeadlineExceeded
	case l.broken:
		return 0, nil, syscall.ECONNRESET
	case out.fin || l.closed[1-c.i]:
		return 0, nil, syscall.EPIPE
	}
	n = min(len(p), out.capacity-len(out.buf))
	if n > 0 {
		out.buf = append(out.buf, p[:n]...)
		l.tellLocked()
	}
	if n == len(p) {
		return n, nil, nil
	}
	return n, l.waitLocked(), nil
}

// Close closes the connection and wakes whoever waits on this end. What was
// written can still be read at the other end, and then the end of the input,
// unless input was left unread here: that resets the connection. Only the
// first call returns nil.
func (c *Conn) Close() error { return c.end(false) }

// Reset closes the connection as a crash or an RST does: the other end reads
// what is on its way, and then syscall.ECONNRESET, which its writes get at
// once. A second call, or one after Close, returns an error that matches
// net.ErrClosed.
func (c *Conn) Reset() error { return c.end(true) }

func (c *Conn) end(reset bool) error {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed[c.i] {
		return c.opError("close", net.ErrClosed)
	}
	in, out := &l.dirs[1-c.i], &l.dirs[c.i]
	l.closed[c.i], out.fin = true, true
	if reset || len(in.buf) > 0 {
		l.broken = true
	}
	in.buf = nil
	l.tellLocked()
	return nil
}

// CloseWrite ends what this end sends. Reading goes on. A second call does
// nothing.
func (c *Conn) CloseWrite() error {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed[c.i]:
		return c.opError("close", net.ErrClosed)
	case l.broken:
		return c.opError("close", syscall.ENOTCONN)
	}
	l.dirs[c.i].fin = true
	l.tellLocked()
	return nil
}

// Buffered returns the number of bytes that can be read now.
func (c *Conn) Buffered() int {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return len(c.l.dirs[1-c.i].buf)
}

// LocalAddr returns this end's Addr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's Addr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. In a synctest bubble they are in the
// bubble's time.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of Read, also of one that waits.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.rd, t) }

// SetWriteDeadline sets the deadline of Write, also of one that waits.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wd, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	c.l.mu.Lock()
	closed := c.l.closed[c.i]
	c.l.mu.Unlock()
	if closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

// opError dresses an error as package net does.
func (c *Conn) opError(op string, err error) error {
	return opError(op, c.local, c.remote, err)
}

func opError(op string, local, remote net.Addr, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: remote, Err: err}
}

var (
	_ net.Conn = (*Conn)(nil)
	_ net.Addr = Addr("")
)
