//go:build unix && !linux

package strand

// blockUntilExit cannot be had here through the standard library's means. As
// with os.Process there is then a moment, between the wait for a child and its
// being known here, in which a signal may go to another process, or here to
// another group, that has just got the same number.
func blockUntilExit(int) bool { return false }
