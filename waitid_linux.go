package strand

import "golang.org/x/sys/unix"

// blockUntilExit waits for a child to exit and leaves it to be waited for.
func blockUntilExit(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
