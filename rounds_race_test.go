//go:build race

package strand_test

// rounds is how often a test repeats what depends on who comes first. The race
// detector makes everything slower.
const rounds = 2_000
