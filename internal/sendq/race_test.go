//go:build race

package sendq

const raceEnabled = true
