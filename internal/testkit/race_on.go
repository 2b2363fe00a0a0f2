//go:build race

package testkit

// The same as in race_off.go.
const (
	Race   = true
	Rounds = 2_000 // the race detector makes everything slower
)
