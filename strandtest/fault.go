package strandtest

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Chunks says how a stream of bytes is cut.
type Chunks uint8

// The ways to cut.
const (
	Whole        Chunks = iota // as it comes
	SingleBytes                // every byte by itself
	RandomChunks               // pieces of random size, small ones more often
)

// String returns the name that the subtests of TestTransport have.
func (c Chunks) String() string { return [...]string{"whole", "bytes", "random"}[c] }

// next returns the size of the next piece of n bytes.
func (c Chunks) next(r *rand.Rand, n int) int {
	switch {
	case n <= 1 || c == Whole:
		return n
	case c == SingleBytes:
		return 1
	}
	return 1 + r.IntN(1+r.IntN(n))
}

// Faults is what goes wrong on a connection: everything that networks do, and
// careless net.Conns. The zero value is no fault. The choices depend on Seed
// and on the sizes asked for, not on time or on the order of goroutines.
type Faults struct {
	// Seed is the seed of all random choices. See the function Seed.
	Seed uint64

	// Chunks cuts what Read returns.
	Chunks Chunks

	// PartialWrites passes what is written on in random pieces, with other
	// goroutines in between.
	PartialWrites bool

	// ShortWrites makes Write sometimes take only a part and return its length
	// without an error, which io.Writer forbids and some conns do.
	ShortWrites bool

	// Latency delays everything that is read.
	Latency time.Duration

	// Stall is a further delay, after every StallEvery bytes read. With no
	// StallEvery there are no stalls.
	Stall      time.Duration
	StallEvery int64

	// ResetAt ends the connection with syscall.ECONNRESET once so many bytes
	// were read, as soon as more is read. Zero or negative: never.
	ResetAt int64

	// EOFAt lets the input end once so many bytes were read, whatever the peer
	// sends. Zero or negative: never.
	EOFAt int64
}

// Conn returns conn with the faults. The result can half-close if conn can. As
// with every net.Conn, Close wakes Read and Write; Read is for one goroutine at
// a time, and Write too.
func (f Faults) Conn(conn net.Conn) net.Conn {
	c := &faultyConn{
		Conn:  conn,
		f:     f,
		cuts:  newRand(f.Seed, 1),
		parts: newRand(f.Seed, 2),
		done:  make(chan struct{}),
	}
	if _, ok := conn.(closeWriter); ok {
		return &faultyHalfConn{c}
	}
	return c
}

// closeWriter is the ability to half-close.
type closeWriter interface{ CloseWrite() error }

type faultyConn struct {
	net.Conn
	f    Faults
	done chan struct{} // closed by Close, and by the reset of ResetAt
	once sync.Once
	rd   deadline

	// Used by Read alone.
	cuts    *rand.Rand
	read    int64  // bytes returned
	stalled int64  // the count of the last stall
	buf     []byte // what held is a part of
	held    []byte
	heldErr error
	due     time.Time // when held may be returned

	// Used by Write alone.
	parts *rand.Rand

	mu     sync.Mutex
	broken bool // mu; ResetAt was reached
}

func (c *faultyConn) Read(p []byte) (int, error) {
	if err := c.isBroken("read"); err != nil || len(p) == 0 {
		return 0, err
	}
	if end := c.f.EOFAt; end > 0 && c.read >= end {
		return 0, io.EOF
	}
	if err := c.fetch(len(p)); err != nil {
		return 0, err
	}
	if at := c.f.ResetAt; at > 0 && c.read >= at && len(c.held) > 0 {
		c.reset()
		return 0, c.isBroken("read")
	}
	if err := c.delay(); err != nil {
		return 0, err
	}
	return c.take(p)
}

// fetch has something to return in held or heldErr.
func (c *faultyConn) fetch(n int) error {
	if len(c.held) > 0 || c.heldErr != nil {
		return nil
	}
	if n > len(c.buf) {
		c.buf = make([]byte, n)
	}
	n, err := c.Conn.Read(c.buf[:n])
	if n == 0 && isTimeout(err) {
		return err
	}
	c.held, c.heldErr = c.buf[:n], err
	if c.f.Latency > 0 {
		c.due = time.Now().Add(c.f.Latency)
	}
	return nil
}

// delay waits until held is due.
func (c *faultyConn) delay() error {
	if e := c.f.StallEvery; e > 0 && c.read-c.stalled >= e {
		c.stalled = c.read
		c.due = time.Now().Add(c.f.Stall)
	}
	if c.due.IsZero() {
		return nil
	}
	timer := time.NewTimer(time.Until(c.due))
	defer timer.Stop()
	select {
	case <-timer.C:
		c.due = time.Time{}
		return nil
	case <-c.rd.wait():
		return c.opError("read", os.ErrDeadlineExceeded)
	case <-c.done:
		return c.opError("read", net.ErrClosed)
	}
}

// take returns the next piece of held.
func (c *faultyConn) take(p []byte) (int, error) {
	if len(c.held) == 0 {
		err := c.heldErr
		c.heldErr = nil
		return 0, err
	}
	n := min(len(p), len(c.held))
	for _, at := range []int64{c.f.EOFAt, c.f.ResetAt} {
		if at > 0 && c.read < at {
			n = int(min(int64(n), at-c.read))
		}
	}
	n = copy(p, c.held[:c.f.Chunks.next(c.cuts, n)])
	c.held = c.held[n:]
	c.read += int64(n)
	return n, nil
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if c.f.ShortWrites && len(p) > 1 && c.parts.IntN(2) == 0 {
		p = p[:1+c.parts.IntN(len(p)-1)]
	}
	written := 0
	for {
		if err := c.isBroken("write"); err != nil {
			return written, err
		}
		k := len(p) - written
		if c.f.PartialWrites {
			k = RandomChunks.next(c.parts, k)
			runtime.Gosched()
		}
		n, err := c.Conn.Write(p[written : written+k])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// reset breaks the connection for both ends.
func (c *faultyConn) reset() {
	c.mu.Lock()
	c.broken = true
	c.mu.Unlock()
	if r, ok := c.Conn.(interface{ Reset() error }); ok {
		r.Reset()
	} else {
		c.Conn.Close()
	}
}

func (c *faultyConn) isBroken(op string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return c.opError(op, syscall.ECONNRESET)
	}
	return nil
}

func (c *faultyConn) opError(op string, err error) error {
	return opError(op, c.LocalAddr(), c.RemoteAddr(), err)
}

func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

func (c *faultyConn) SetDeadline(t time.Time) error {
	c.rd.set(t)
	return c.Conn.SetDeadline(t)
}

func (c *faultyConn) SetReadDeadline(t time.Time) error {
	c.rd.set(t)
	return c.Conn.SetReadDeadline(t)
}

// faultyHalfConn can half-close.
type faultyHalfConn struct{ *faultyConn }

func (c *faultyHalfConn) CloseWrite() error { return c.Conn.(closeWriter).CloseWrite() }

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Listener returns ln with the faults on every connection that it accepts. The
// seed of each is drawn from Seed.
func (f Faults) Listener(ln net.Listener) net.Listener {
	return &faultyListener{Listener: ln, f: f, seeds: newRand(f.Seed, 3)}
}

type faultyListener struct {
	net.Listener
	f Faults

	mu    sync.Mutex
	seeds *rand.Rand // mu
}

func (l *faultyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.f
	f.Seed = l.seeds.Uint64()
	return f.Conn(conn), nil
}

// FailAccept returns ln with an Accept whose first calls return errs, one
// after the other, and that then goes on as before. Connections wait
// meanwhile, as they do when a process has no descriptors left: syscall.EMFILE
// comes as the *net.OpError that package net makes of it.
func FailAccept(ln net.Listener, errs ...error) net.Listener {
	return &failingListener{Listener: ln, errs: errs}
}

type failingListener struct {
	net.Listener

	mu   sync.Mutex
	errs []error // mu; still to be returned
}

func (l *failingListener) Accept() (net.Conn, error) {
	if err := l.next(); err != nil {
		return nil, opError("accept", l.Addr(), nil, err)
	}
	return l.Listener.Accept()
}

func (l *failingListener) next() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) == 0 {
		return nil
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return err
}

// PacketFaults is what goes wrong with datagrams that are sent. The zero value
// is no fault.
type PacketFaults struct {
	// Seed is the seed of all random choices. See the function Seed.
	Seed uint64

	// Lose, Duplicate and Reorder are probabilities from 0 to 1. A datagram
	// that is reordered is held back until the next one is sent, or the conn
	// is closed.
	Lose, Duplicate, Reorder float64
}

// PacketConn returns pc with the faults on its WriteTo.
func (f PacketFaults) PacketConn(pc net.PacketConn) net.PacketConn {
	return &faultyPacketConn{PacketConn: pc, f: f, r: newRand(f.Seed, 4)}
}

type faultyPacketConn struct {
	net.PacketConn
	f PacketFaults

	mu       sync.Mutex
	r        *rand.Rand // mu
	late     []byte     // mu; the datagram held back, nil if there is none
	lateAddr net.Addr   // mu
}

func (c *faultyPacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lose, double, hold := c.r.Float64() < c.f.Lose, c.r.Float64() < c.f.Duplicate, c.r.Float64() < c.f.Reorder
	switch {
	case lose:
		return len(p), nil
	case hold && c.late == nil:
		c.late, c.lateAddr = append(make([]byte, 0, len(p)+1), p...), addr
		return len(p), nil
	}
	n, err := c.PacketConn.WriteTo(p, addr)
	if err == nil && double {
		n, err = c.PacketConn.WriteTo(p, addr)
	}
	if err == nil {
		err = c.releaseLocked()
	}
	return n, err
}

// releaseLocked sends the datagram held back.
func (c *faultyPacketConn) releaseLocked() error {
	if c.late == nil {
		return nil
	}
	p := c.late
	c.late = nil
	_, err := c.PacketConn.WriteTo(p, c.lateAddr)
	return err
}

func (c *faultyPacketConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked()
	return c.PacketConn.Close()
}
