// Package sockio makes the non-blocking system calls of a stream on a
// descriptor that the Go runtime's poller watches. It knows nothing of
// protocols, and waits for nothing: whoever calls it does so inside
// syscall.RawConn and waits there.
package sockio

import (
	"net"
	"os"
	"syscall"
)

// Kind says which system calls suit a descriptor.
type Kind uint8

// The kinds of descriptor.
const (
	None   Kind = iota // nothing can be done without blocking: use Read and Write
	Socket             // a stream socket
	TCPInq             // a TCP socket whose receives tell what is left (TCP_INQ)
	File               // a pipe or a terminal
)

// Of returns how conn can be driven: by non-blocking calls on its descriptor,
// or, with None, only through its own methods. The type must be the very one
// of package net: a type that embeds a *net.TCPConn may be anything, a TLS
// connection for example, whose descriptor carries other bytes than its Read.
func Of(conn net.Conn) (syscall.RawConn, Kind) {
	if !supported {
		return nil, None
	}
	switch c := conn.(type) {
	case *net.TCPConn:
		if rc, err := c.SyscallConn(); err == nil {
			return rc, Socket
		}
	case *net.UnixConn:
		if rc, err := c.SyscallConn(); err == nil && c.LocalAddr().Network() == "unix" {
			return rc, Socket
		}
	}
	return nil, None
}

// OfFile is Of for a pipe, a terminal or a socket that is an *os.File which
// the poller watches.
func OfFile(f *os.File) (syscall.RawConn, Kind) {
	if !supported {
		return nil, None
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, None
	}
	return rc, File
}

// WouldBlock reports whether err says that the descriptor is not ready.
func WouldBlock(err error) bool { return err == syscall.EAGAIN }
