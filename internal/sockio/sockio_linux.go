//go:build linux && (amd64 || arm64) && !race

package sockio

import (
	"sync"
	"syscall"
	"unsafe"
)

const supported = true

// A raw system call does not tell the scheduler that this thread may be away
// for a while. That saves a tenth of a small echo and is harmless while the
// call cannot block and copies little: up to rawMax bytes.
const rawMax = 64 << 10

const (
	recvFlags = syscall.MSG_DONTWAIT
	sendFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
)

// Recv reads once into p, which must not be empty. Zero bytes without an
// error are the end of the stream; syscall.EAGAIN means that nothing is there.
// more is false if the next call could only return EAGAIN.
func Recv(k Kind, fd uintptr, p []byte) (n int, more bool, err error) {
	switch k {
	case File:
		n, err = ignoreEINTR(syscall.Read, fd, p)
		return n, true, err
	case TCPInq:
		return recvInq(fd, p)
	}
	call := syscall.RawSyscall6
	if len(p) > rawMax {
		call = syscall.Syscall6
	}
	for {
		r, _, e := call(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), recvFlags, 0, 0)
		switch e {
		case 0:
			return int(r), true, nil
		case syscall.EINTR:
		default:
			return 0, true, e
		}
	}
}

// tcpInq is TCP_INQ, and TCP_CM_INQ: after a receive it tells the number of
// bytes that are left, and counts a FIN as one. It does not tell of a RST.
const tcpInq = 36

// EnableInq has the receives on a TCP socket tell what is left, and returns
// the kind to receive with from then on.
func EnableInq(fd uintptr) Kind {
	if syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpInq, 1) != nil {
		return Socket
	}
	return TCPInq
}

// message is the memory of one recvmsg, pooled as vector is.
type message struct {
	hdr     syscall.Msghdr
	iov     syscall.Iovec
	control inqControl
}

// inqControl is the control message that TCP_INQ sends.
type inqControl struct {
	hdr syscall.Cmsghdr
	inq int32
	_   int32 // alignment
}

var messages = sync.Pool{New: func() any { return new(message) }}

func recvInq(fd uintptr, p []byte) (n int, more bool, err error) {
	m := messages.Get().(*message)
	m.iov.Base = &p[0]
	m.iov.SetLen(len(p))
	m.hdr.Iov, m.hdr.Iovlen = &m.iov, 1
	m.hdr.Control = (*byte)(unsafe.Pointer(&m.control))
	call := syscall.RawSyscall
	if len(p) > rawMax {
		call = syscall.Syscall
	}
	var e syscall.Errno
	for {
		m.hdr.SetControllen(int(unsafe.Sizeof(m.control)))
		var r uintptr
		r, _, e = call(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&m.hdr)), recvFlags)
		n = int(r)
		if e != syscall.EINTR {
			break
		}
	}
	told := m.hdr.Controllen > 0 && m.control.hdr.Type == tcpInq && m.control.hdr.Level == syscall.IPPROTO_TCP
	more = !told || m.control.inq != 0
	m.iov.Base = nil
	messages.Put(m)
	if e != 0 {
		return 0, true, e
	}
	return n, more, nil
}

// Send writes once from p, which must not be empty, and returns how much the
// kernel took.
func Send(k Kind, fd uintptr, p []byte) (int, error) {
	if k == File {
		return ignoreEINTR(syscall.Write, fd, p)
	}
	call := syscall.RawSyscall6
	if len(p) > rawMax {
		call = syscall.Syscall6
	}
	for {
		r, _, e := call(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), sendFlags, 0, 0)
		switch e {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}

// maxVec is how many pieces one vectored write takes.
const maxVec = 64

// vector is the memory of one sendmsg. It is pooled because a goroutine's
// first stack has no room for it.
type vector struct {
	hdr syscall.Msghdr
	iov [maxVec]syscall.Iovec
}

var vectors = sync.Pool{New: func() any { return new(vector) }}

// Sendv writes the pieces of bufs in order until the kernel takes no more,
// and returns how much it took.
func Sendv(k Kind, fd uintptr, bufs [][]byte) (total int, err error) {
	v := vectors.Get().(*vector)
	for {
		count, size := 0, 0
		for ; len(bufs) > 0 && count < maxVec; bufs = bufs[1:] {
			if b := bufs[0]; len(b) > 0 {
				v.iov[count].Base = &b[0]
				v.iov[count].SetLen(len(b))
				size += len(b)
				count++
			}
		}
		if count == 0 {
			break
		}
		var n int
		n, err = v.send(k, fd, count, size)
		clear(v.iov[:count])
		total += n
		if n < size {
			break
		}
	}
	vectors.Put(v)
	if total > 0 {
		err = nil // the next call meets it again
	}
	return total, err
}

func (v *vector) send(k Kind, fd uintptr, count, size int) (int, error) {
	call := syscall.RawSyscall
	if size > rawMax {
		call = syscall.Syscall
	}
	v.hdr.Iov = &v.iov[0]
	v.hdr.Iovlen = uint64(count)
	for {
		var r uintptr
		var e syscall.Errno
		if k == File {
			r, _, e = syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v.iov[0])), uintptr(count))
		} else {
			r, _, e = call(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&v.hdr)), sendFlags)
		}
		switch e {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}
