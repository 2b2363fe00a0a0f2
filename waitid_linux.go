package strand

import "golang.org/x/sys/unix"

// blockUntilExit waits for a child to exit, leaves it to be waited for, and
// reports whether it could do that.
func blockUntilExit(pid int) bool {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return err == nil
		}
	}
}
