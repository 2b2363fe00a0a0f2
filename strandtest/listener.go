package strandtest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// backlog is the number of connections that wait for Accept at most.
const backlog = 128

// Listener accepts in-memory connections, which its Dial makes. All methods
// may be called from any goroutine.
type Listener struct {
	capacity int
	queue    chan *Conn    // dialled and not accepted
	done     chan struct{} // closed by Close

	mu     sync.Mutex
	dialed int // mu; for the addresses
}

// Listen returns a Listener whose connections hold capacity bytes in each
// direction; zero or negative means 64 KiB.
func Listen(capacity int) *Listener {
	return &Listener{capacity: capacity, queue: make(chan *Conn, backlog), done: make(chan struct{})}
}

// Accept waits for the next connection. After Close its error matches
// net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.opError("accept", net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, l.opError("accept", net.ErrClosed)
	}
}

// Dial makes a connection and returns the dialling end; Accept returns the
// other one. As over TCP it does not wait for Accept, unless 128 connections
// are waiting already: then it waits for one of them or for ctx. After Close
// the error matches syscall.ECONNREFUSED.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	ours, theirs := pipeBetween(l.nextAddr(), l.addr(), l.capacity)
	select {
	case <-l.done:
		return nil, l.opError("dial", syscall.ECONNREFUSED)
	default:
	}
	select {
	case l.queue <- theirs:
		return ours, nil
	case <-l.done:
		return nil, l.opError("dial", syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, l.opError("dial", context.Cause(ctx))
	}
}

func (l *Listener) nextAddr() Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialed++
	return Addr(fmt.Sprintf("client-%d", l.dialed))
}

// Close ends accepting and resets the connections that nobody has accepted. A
// second call returns an error that matches net.ErrClosed.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.done) {
		return l.opError("close", net.ErrClosed)
	}
	close(l.done)
	for {
		select {
		case c := <-l.queue:
			c.Reset()
		default:
			return nil
		}
	}
}

func (l *Listener) addr() Addr { return "listener" }

// Addr returns the address that the accepted connections have too.
func (l *Listener) Addr() net.Addr { return l.addr() }

func (l *Listener) opError(op string, err error) error {
	return opError(op, l.addr(), nil, err)
}

var _ net.Listener = (*Listener)(nil)
