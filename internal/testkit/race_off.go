//go:build !race

package testkit

const (
	Race   = false  // whether this is a build for the race detector
	Rounds = 10_000 // how often a test repeats what depends on who comes first
)
