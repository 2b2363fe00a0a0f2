package stats

import (
	"math"
	"testing"
)

func TestSummarize(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"odd number of rounds", []float64{3, 1, 2}, Summary{2, 1, 3, 3}},
		{"even number of rounds", []float64{4, 1, 2, 3}, Summary{2.5, 1, 4, 4}},
		{"failed rounds are left out", []float64{nan, 5, nan}, Summary{5, 5, 5, 1}},
	} {
		if got := Summarize(c.values); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := Summarize(nil); !math.IsNaN(got.Median) || got.N != 0 {
		t.Errorf("no rounds: %+v, want NaN and N 0", got)
	}
}

func TestSummarizeKeepsTheOrderOfItsArgument(t *testing.T) {
	values := []float64{3, math.NaN(), 1}
	Summarize(values)
	if values[0] != 3 || values[2] != 1 {
		t.Errorf("argument changed to %v", values)
	}
}

func TestRatiosStayWithinTheirRound(t *testing.T) {
	got := Ratios([]float64{10, 30, 5, 7}, []float64{5, 10, 0})
	if got[0] != 2 || got[1] != 3 {
		t.Errorf("ratios %v, want 2 and 3 first", got)
	}
	if !math.IsNaN(got[2]) || !math.IsNaN(got[3]) {
		t.Errorf("ratios %v, want NaN where the base is zero or missing", got)
	}
}
