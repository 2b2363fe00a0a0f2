// Package stats condenses the rounds of a comparison: medians and spreads,
// and ratios taken within one round.
package stats

import (
	"math"
	"slices"
)

// A Summary is the median of some rounds with the smallest and largest of
// them. N says how many rounds there were; with none, the rest is NaN.
type Summary struct {
	Median, Min, Max float64
	N                int
}

// Summarize ignores NaN, which stands for a round without a value.
func Summarize(values []float64) Summary {
	kept := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(kept) == 0 {
		return Summary{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	slices.Sort(kept)
	return Summary{Median: median(kept), Min: kept[0], Max: kept[len(kept)-1], N: len(kept)}
}

func median(sorted []float64) float64 {
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Ratios divides round by round: what drifts from one round to the next (clock
// frequency, neighbours) hits numerator and denominator alike and cancels. A
// round that misses either, or whose base is zero, gives NaN.
func Ratios(values, base []float64) []float64 {
	ratios := make([]float64, len(values))
	for i, v := range values {
		ratios[i] = math.NaN()
		if i < len(base) && base[i] != 0 {
			ratios[i] = v / base[i]
		}
	}
	return ratios
}
