//go:build unix

package sockio

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// RD-07: a call that a signal interrupts is made again, and its other results
// are passed on.
func TestIgnoreEINTR(t *testing.T) {
	results := []struct {
		n   int
		err error
	}{{-1, syscall.EINTR}, {-1, syscall.EINTR}, {3, nil}, {-1, syscall.EAGAIN}}
	next := func(fd int, p []byte) (int, error) {
		require.Equal(t, 7, fd)
		require.Len(t, p, 5)
		r := results[0]
		results = results[1:]
		return r.n, r.err
	}
	n, err := ignoreEINTR(next, 7, make([]byte, 5))
	require.NoError(t, err)
	require.Equal(t, 3, n)
	n, err = ignoreEINTR(next, 7, make([]byte, 5))
	require.Equal(t, syscall.EAGAIN, err)
	require.Zero(t, n, "never negative")
}
