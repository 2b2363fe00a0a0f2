// Package hist counts latencies in buckets of constant relative width.
package hist

import (
	"math/bits"
	"time"
)

// subBits fixes the resolution: every power of two is cut into 1<<subBits
// buckets, so a reported value is at most 1/64 (1.6 %) above the true one.
const subBits = 6

// A Histogram has a fixed size and its Record allocates nothing, because it
// runs once per operation inside the measured loop. The zero value is empty
// and ready. It belongs to one goroutine.
type Histogram struct {
	buckets [(64 - subBits + 1) << subBits]uint32
	total   uint64
}

// Record counts one latency; a negative one (a clock that stepped) counts as 0.
func (h *Histogram) Record(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

// Count returns how many latencies were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Reset forgets everything.
func (h *Histogram) Reset() { *h = Histogram{} }

// Quantile returns the upper edge of the bucket that holds the q-th quantile,
// 0 <= q <= 1, and 0 for an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.total)), h.total-1)
	var seen uint64
	for i, n := range h.buckets {
		if seen += uint64(n); seen > rank {
			return time.Duration(upperEdge(i))
		}
	}
	return 0
}

// bucketOf maps small values to themselves, and larger ones to their top
// subBits+1 bits:
//
//	v < 64      bucket v
//	v >= 64     64*(exponent+1) + the six bits after the leading one
func bucketOf(v uint64) int {
	exp := bits.Len64(v) - 1 - subBits
	if exp < 0 {
		return int(v)
	}
	return (exp+1)<<subBits + int(v>>exp) - 1<<subBits
}

// upperEdge is the largest value that bucketOf maps to i.
func upperEdge(i int) uint64 {
	exp := i>>subBits - 1
	if exp < 0 {
		return uint64(i)
	}
	mantissa := uint64(i&(1<<subBits-1)) + 1<<subBits
	return (mantissa+1)<<exp - 1
}
