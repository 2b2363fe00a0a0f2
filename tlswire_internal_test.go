package strand

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Wherever the network cuts them, records are counted when their last byte is
// there; what looks like a whole one is not while a piece of another follows.
func TestRecordScan(t *testing.T) {
	record := func(size int) []byte {
		return append([]byte{23, 3, 3, byte(size >> 8), byte(size)}, make([]byte, size)...)
	}
	bytes := append(append(record(300), record(0)...), record(1)...)
	ends := []int{305, 310, 316}
	for step := 1; step <= len(bytes); step++ {
		var r recordScan
		for at := 0; at < len(bytes); at += step {
			to := min(at+step, len(bytes))
			r.add(bytes[at:to])
			whole := 0
			for _, end := range ends {
				if end <= to {
					whole++
				}
			}
			require.Equal(t, whole, r.whole, "in steps of %d, at %d", step, to)
			require.Equal(t, to == ends[0], r.one(), "in steps of %d, at %d", step, to)
		}
	}
}
