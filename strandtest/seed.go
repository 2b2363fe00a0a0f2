package strandtest

import (
	"flag"
	"math/rand/v2"
	"testing"
)

var seedFlag = flag.Uint64("strandtest.seed", 0, "seed of random tests and faults; 0 draws one")

// Seed returns a seed for the random choices of a test: that of the flag
// -strandtest.seed, or a random one. If the test fails, the seed is logged, so
// that the same choices can be made again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := *seedFlag
	for seed == 0 {
		seed = rand.Uint64()
	}
	tellSeed(t, seed)
	return seed
}

func tellSeed(t testing.TB, seed uint64) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("strandtest: the seed was %d; to repeat it: -strandtest.seed=%d", seed, seed)
		}
	})
}

// newRand returns a generator for one of the streams of choices that a seed
// stands for. Each goroutine has its own, so that the order in which they run
// does not change what they choose.
func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
