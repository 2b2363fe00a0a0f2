package streams

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// ErrConcurrentRead is what a read of a Reader returns that would have to wait
// while another one is waiting. asyncio: RuntimeError.
var ErrConcurrentRead = errors.New("another goroutine is already waiting for incoming data")

var (
	errNoSeparator    = errors.New("streams: ReadUntil needs at least one separator")
	errEmptySeparator = errors.New("streams: a separator must have at least one byte")
	errNilHandler     = errors.New("streams: the handler is nil")

	// errLost is what is left to say of a connection that ended cleanly.
	errLost = fmt.Errorf("streams: connection lost: %w", net.ErrClosed)
)

// IncompleteReadError is what ReadExactly and ReadUntil return when the stream
// ends before they have what they were asked for. It matches
// io.ErrUnexpectedEOF, and io.EOF as well if Partial is empty: the stream ended
// where it may. asyncio: IncompleteReadError.
type IncompleteReadError struct {
	Partial  []byte // what came before the end; it is no longer in the Reader
	Expected int    // the number of bytes asked for, 0 if it was ReadUntil
}

func (e *IncompleteReadError) Error() string {
	expected := "undefined"
	if e.Expected > 0 {
		expected = strconv.Itoa(e.Expected)
	}
	return fmt.Sprintf("streams: %d bytes read on a total of %s expected bytes", len(e.Partial), expected)
}

// Is reports whether target is io.ErrUnexpectedEOF, or io.EOF after nothing.
func (e *IncompleteReadError) Is(target error) bool {
	return target == io.ErrUnexpectedEOF || target == io.EOF && len(e.Partial) == 0
}

// LimitOverrunError is what ReadUntil and ReadLine return for a chunk that is
// longer than the Reader's limit. After ReadUntil the data are still there: read
// at least Consumed bytes of them to get on. asyncio: LimitOverrunError, and
// ValueError from readline.
type LimitOverrunError struct {
	Consumed int  // bytes at the front in which no separator begins
	Found    bool // a separator stands behind them
}

func (e *LimitOverrunError) Error() string {
	if e.Found {
		return "streams: separator is found, but chunk is longer than limit"
	}
	return "streams: separator is not found, and chunk exceeds the limit"
}
