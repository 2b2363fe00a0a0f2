//go:build unix

package main

import (
	"syscall"

	"github.com/gostrand/strand"
)

// setLingerZero makes the end of a connection a reset.
func setLingerZero(t strand.Transport) {
	if raw, ok := t.ExtraInfo(strand.ExtraSocket).(syscall.RawConn); ok {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		})
	}
}
