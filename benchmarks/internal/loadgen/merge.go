package loadgen

import "github.com/gostrand/strand/benchmarks/internal/stats"

// Merge puts several windows of one server together: sums, and of what cannot be
// added the medians. There is at least one.
func Merge(windows []Result) Result {
	sum := Result{Cipher: windows[0].Cipher}
	for _, w := range windows {
		sum.Ops += w.Ops
		sum.Seconds += w.Seconds
		sum.ServerCPU += w.ServerCPU
		sum.ClientCPU += w.ClientCPU
		sum.Busy += w.Busy
		sum.Steal += w.Steal
		sum.Lost += w.Lost
	}
	sum.P50 = medianOf(windows, func(r Result) float64 { return r.P50 })
	sum.P99 = medianOf(windows, func(r Result) float64 { return r.P99 })
	sum.P999 = medianOf(windows, func(r Result) float64 { return r.P999 })
	sum.BytesPerConn = medianOf(windows, func(r Result) float64 { return r.BytesPerConn })
	return sum
}

func medianOf(windows []Result, of func(Result) float64) float64 {
	values := make([]float64, len(windows))
	for i, w := range windows {
		values[i] = of(w)
	}
	return stats.Summarize(values).Median
}
