package strand

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"
)

// Errors of the library itself. What the operating system reports on a
// connection comes as a *net.OpError around the system's error, the end of a
// connection matches net.ErrClosed, and everything that took too long
// os.ErrDeadlineExceeded.
var (
	// ErrBufferFull is returned by Write, WriteLines and SendTo when output is
	// waiting and the new bytes would bring it over WriteBufferMax. Nothing of
	// them was accepted.
	ErrBufferFull = errors.New("strand: write buffer is full")

	// ErrWriteAfterEOF is returned by Write, WriteLines, Sendfile and StartTLS
	// after WriteEOF.
	ErrWriteAfterEOF = errors.New("strand: write after WriteEOF")

	// ErrTooManyConnections is returned by Server.ServeConn when the server
	// already has MaxConnections.
	ErrTooManyConnections = errors.New("strand: too many connections")

	errNilFactory   = errors.New("strand: the protocol factory is nil")
	errNilProtocol  = errors.New("strand: the protocol factory returned nil")
	errNilConn      = errors.New("strand: the connection is nil")
	errBadWrite     = errors.New("strand: the Write of the connection returned an impossible number of bytes")
	errEmptyBuffer  = errors.New("strand: GetBuffer returned an empty buffer")
	errServerClosed = fmt.Errorf("strand: the server is closed: %w", net.ErrClosed)
)

// closedError is what a transport answers to a Write after its end began: it
// matches net.ErrClosed, and the error that ended the connection if one did.
type closedError struct{ cause error }

func (e closedError) Error() string {
	if e.cause == nil {
		return "strand: write on a closed connection"
	}
	return "strand: write on a closed connection: " + e.cause.Error()
}

func (e closedError) Is(target error) bool { return target == net.ErrClosed }
func (e closedError) Unwrap() error        { return e.cause }

// TimeoutError says which of a connection's time limits ended it, or that a
// shutdown had to abort what was left. It matches os.ErrDeadlineExceeded.
type TimeoutError struct {
	Op    string        // "idle", "write", "close", "handshake" or "shutdown"
	After time.Duration // the limit
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("strand: %s timeout after %v", e.Op, e.After)
}

// Is reports whether target is os.ErrDeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// Timeout returns true, as net.Error asks.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary returns true: that is what os.ErrDeadlineExceeded answers.
func (e *TimeoutError) Temporary() bool { return true }

// PanicError is what a connection ends with when one of its callbacks panics or
// calls runtime.Goexit, or a method of the caller's net.Conn or net.PacketConn
// does. If the panic's value is an error, the PanicError unwraps to it.
type PanicError struct {
	Value any    // what was given to panic; after Goexit an error that says so
	Stack []byte // the stack of the goroutine at that moment
}

func (e *PanicError) Error() string { return fmt.Sprintf("strand: callback panicked: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("callback called runtime.Goexit")

// newPanicError is called in the deferred function that recovered v; nil
// stands for runtime.Goexit, which recover does not see.
func newPanicError(v any) *PanicError {
	if v == nil {
		v = errGoexit
	}
	return &PanicError{Value: v, Stack: debug.Stack()}
}

var (
	_ net.Error = (*TimeoutError)(nil)
	_ interface {
		error
		Unwrap() error
	} = (*PanicError)(nil)
)
