package hist

import (
	"math"
	"testing"
	"time"
)

func TestEmptyHistogramAnswersZero(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.99); got != 0 {
		t.Fatalf("quantile of nothing = %v, want 0", got)
	}
}

func TestBucketsAreContiguousAndTight(t *testing.T) {
	values := []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 123456, 1 << 40, math.MaxInt64}
	for _, v := range values {
		i := bucketOf(v)
		edge := upperEdge(i)
		if edge < v {
			t.Errorf("bucket of %d ends at %d, below the value", v, edge)
		}
		if float64(edge-v) > float64(v)/(1<<subBits) {
			t.Errorf("bucket of %d ends at %d, more than 1/64 above", v, edge)
		}
		if v > 0 && upperEdge(i-1) >= v && bucketOf(v-1) == i-1 {
			t.Errorf("bucket before that of %d reaches over it", v)
		}
	}
	for i := 1; i < 2000; i++ {
		if bucketOf(upperEdge(i-1)+1) != i {
			t.Fatalf("buckets %d and %d do not touch", i-1, i)
		}
	}
}

func TestQuantilesOfAUniformRun(t *testing.T) {
	var h Histogram
	for i := 1; i <= 10000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	for _, c := range []struct{ q, want float64 }{{0.5, 5000}, {0.99, 9900}, {0.999, 9990}, {1, 10000}} {
		got := float64(h.Quantile(c.q)) / 1e3
		if math.Abs(got-c.want) > c.want/50 {
			t.Errorf("quantile %v = %.0f us, want about %.0f", c.q, got, c.want)
		}
	}
	h.Record(-time.Second)
	if h.Count() != 10001 || h.Quantile(0) != 0 {
		t.Errorf("a negative latency counts as zero: count %d, min %v", h.Count(), h.Quantile(0))
	}
	if h.Reset(); h.Count() != 0 {
		t.Error("Reset keeps counts")
	}
}
