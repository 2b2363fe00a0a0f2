//go:build !race

package strand_test

const raceDetector = false
