package sockio

import "golang.org/x/sys/unix"

const pollRDHUP = unix.POLLRDHUP
