//go:build unix

package sockio

import "golang.org/x/sys/unix"

// peerGone are the events by which a pipe, or a socket, says that nobody reads
// any more. That there is something to read is not one of them.
const peerGone = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL | pollRDHUP

// PeerGone reports whether the reader of the pipe or socket fd has gone away.
func PeerGone(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: pollRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&peerGone != 0
}
