//go:build unix && !linux

package strand

// blockUntilExit cannot be had here through the standard library's means:
// between the exit of a process group's leader and the wait for it there is a
// moment in which a signal may go to a group of the same number.
func blockUntilExit(int) {}
