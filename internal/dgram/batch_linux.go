//go:build linux && (amd64 || arm64) && !race

package dgram

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const supported = true

// A raw system call does not tell the scheduler that this thread may be away
// for a while. That is harmless while the call cannot block and copies little:
// up to rawMax bytes.
const rawMax = 64 << 10

const (
	recvFlags = syscall.MSG_DONTWAIT
	sendFlags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
)

func familyOf(fd uintptr) Family {
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		return None
	}
	switch sa.(type) {
	case *unix.SockaddrInet4:
		return Inet4
	case *unix.SockaddrInet6:
		return Inet6
	case *unix.SockaddrUnix:
		return Unix
	}
	return None
}

// sockaddr has room for the kernel's form of an address of any family.
type sockaddr = syscall.RawSockaddrAny

// put writes an address that fits f, and returns its length.
func (f Family) put(sa *sockaddr, a *Addr) uint32 {
	switch f {
	case Inet4:
		in := (*syscall.RawSockaddrInet4)(unsafe.Pointer(sa))
		in.Family = syscall.AF_INET
		putPort(&in.Port, a.Port)
		copy(in.Addr[:], a.IP[12:])
		return syscall.SizeofSockaddrInet4
	case Inet6:
		in := (*syscall.RawSockaddrInet6)(unsafe.Pointer(sa))
		in.Family = syscall.AF_INET6
		putPort(&in.Port, a.Port)
		in.Flowinfo = 0
		in.Addr = a.inet6()
		in.Scope_id = a.Scope
		return syscall.SizeofSockaddrInet6
	}
	un := (*syscall.RawSockaddrUnix)(unsafe.Pointer(sa))
	un.Family = syscall.AF_UNIX
	n := uint32(putPath(un, a.Path))
	return uint32(unsafe.Offsetof(un.Path)) + n
}

// putPath writes a path, and returns how many bytes of un.Path are its own.
func putPath(un *syscall.RawSockaddrUnix, path string) (n int) {
	for n < len(path) && n < len(un.Path) {
		un.Path[n] = int8(path[n])
		n++
	}
	if n > 0 && path[0] == '@' {
		un.Path[0] = 0 // an abstract name, which no zero ends
		return n
	}
	if n < len(un.Path) {
		un.Path[n] = 0
		n++
	}
	return n
}

func putPort(field *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(field))[:], port)
}

func portOf(field *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(field))[:])
}

// names is lent memory for one address: a goroutine's first stack has no room
// for it.
var names = sync.Pool{New: func() any { return new(sockaddr) }}

// Send sends one datagram, to the connected peer if to is nil.
func Send(f Family, fd uintptr, p []byte, to *Addr) error {
	if to == nil {
		return send(fd, p, nil, 0)
	}
	sa := names.Get().(*sockaddr)
	err := send(fd, p, sa, f.put(sa, to))
	names.Put(sa)
	return err
}

func send(fd uintptr, p []byte, sa *sockaddr, size uint32) error {
	for {
		var e syscall.Errno
		if len(p) > rawMax {
			_, _, e = syscall.Syscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
				sendFlags, uintptr(unsafe.Pointer(sa)), uintptr(size))
		} else {
			_, _, e = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
				sendFlags, uintptr(unsafe.Pointer(sa)), uintptr(size))
		}
		switch e {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return e
		}
	}
}

// message is the kernel's struct mmsghdr.
type message struct {
	hdr syscall.Msghdr
	len uint32
}

// vector is what one call of recvmmsg or sendmmsg takes.
type vector struct {
	msgs  [Max]message
	iovs  [Max]syscall.Iovec
	names [Max]sockaddr
}

// data has message i carry p.
func (v *vector) data(i int, p []byte) {
	v.iovs[i].Base = unsafe.SliceData(p)
	v.iovs[i].SetLen(len(p))
	v.msgs[i].hdr.Iov = &v.iovs[i]
	v.msgs[i].hdr.Iovlen = 1
}

// address has message i go to, or come from, what is in names[i].
func (v *vector) address(i int, size uint32) {
	v.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&v.names[i]))
	v.msgs[i].hdr.Namelen = size
}

// transfer makes the call for the messages from first up to end.
func (v *vector) transfer(trap, fd uintptr, first, end int, flags uintptr, raw bool) (n int, e syscall.Errno) {
	for {
		var r uintptr
		if raw {
			r, _, e = syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&v.msgs[first])), uintptr(end-first), flags, 0, 0)
		} else {
			r, _, e = syscall.Syscall6(trap, fd, uintptr(unsafe.Pointer(&v.msgs[first])), uintptr(end-first), flags, 0, 0)
		}
		switch e {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}

// inbox is the kernel's side of a Batch.
type inbox struct {
	vector
	size  int  // of the buffers that are linked
	dirty int  // how many lengths of addresses the kernel has overwritten
	large bool // the last call brought more than rawMax
}

func (b *Batch) recv(fd uintptr) (n int, more bool, err error) {
	in := &b.in
	if in.size != b.size {
		b.link()
	}
	for i := range in.dirty {
		in.msgs[i].hdr.Namelen = syscall.SizeofSockaddrAny
	}
	n, e := in.transfer(syscall.SYS_RECVMMSG, fd, 0, b.limit(), recvFlags, !in.large)
	if in.dirty = n; e != 0 {
		return 0, true, e
	}
	size := 0
	for i := range n {
		size += int(in.msgs[i].len)
	}
	in.large = size > rawMax
	// Fewer than asked for means that the next one was not there yet, or was an
	// error, which the kernel keeps and reports with an event of its own.
	return n, n == b.limit(), nil
}

// link has the kernel put datagram i into buffer i.
func (b *Batch) link() {
	for i := range b.limit() {
		b.in.data(i, b.buffer(i))
		b.in.address(i, syscall.SizeofSockaddrAny)
	}
	b.in.size = b.size
}

// Data returns datagram i, and whether it was cut off to fit.
func (b *Batch) Data(i int) (p []byte, cut bool) {
	m := &b.in.msgs[i]
	return b.buffer(i)[:m.len], m.hdr.Flags&syscall.MSG_TRUNC != 0
}

// From returns the sender of datagram i of a UDP socket.
func (b *Batch) From(i int) (a IPPort) {
	if b.family == Inet4 {
		sa := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&b.in.names[i]))
		a.Port, a.IP = portOf(&sa.Port), mapped(sa.Addr)
		return a
	}
	sa := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&b.in.names[i]))
	a.Port, a.IP, a.Scope = portOf(&sa.Port), sa.Addr, sa.Scope_id
	return a
}

// Path returns the name of the sender of datagram i of a Unix socket, empty if
// it has none. It is valid until the next Recv.
func (b *Batch) Path(i int) []byte {
	sa := (*syscall.RawSockaddrUnix)(unsafe.Pointer(&b.in.names[i]))
	n := int(b.in.msgs[i].hdr.Namelen) - int(unsafe.Offsetof(sa.Path))
	if n <= 0 {
		return nil
	}
	path := unsafe.Slice((*byte)(unsafe.Pointer(&sa.Path[0])), min(n, len(sa.Path)))
	if path[0] == 0 {
		path[0] = '@'
		return path
	}
	if end := bytes.IndexByte(path, 0); end >= 0 {
		path = path[:end]
	}
	return path
}

// send sends until the kernel refuses a datagram, and tells how many it took.
func (o *Outbox) send(fd uintptr) (sent int, err error) {
	for i := o.first; i < o.count; i++ {
		o.out.data(i, o.packet(i))
		o.out.address(i, o.family.put(&o.out.names[i], &o.to[i]))
	}
	for first := o.first; first < o.count; {
		n, e := o.out.transfer(unix.SYS_SENDMMSG, fd, first, o.count, sendFlags, true)
		if e != 0 {
			return first - o.first, e
		}
		first += n
	}
	return o.count - o.first, nil
}
