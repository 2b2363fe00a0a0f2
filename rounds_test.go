//go:build !race

package strand_test

// rounds is how often a test repeats what depends on who comes first.
const rounds = 10_000
