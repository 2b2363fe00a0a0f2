// Package dgram makes the non-blocking system calls of a datagram socket on a
// descriptor that the Go runtime's poller watches, many datagrams to a call
// where the system can do that. It knows nothing of protocols, and waits for
// nothing: whoever calls it does so inside syscall.RawConn and waits there.
package dgram

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
)

// Family is the kind of a socket's addresses.
type Family uint8

// The families.
const (
	None  Family = iota // nothing can be done without blocking: use ReadFrom and WriteTo
	Inet4               // UDP over IPv4
	Inet6               // UDP over IPv6, and over IPv4 if the socket takes both
	Unix                // Unix datagrams
)

// maxPath is the room for the name of a Unix socket.
const maxPath = len(syscall.RawSockaddrUnix{}.Path)

// Path checks the name of a Unix socket, and returns it as an Addr has it. An
// abstract name may be one longer than a path, which a zero ends, and hold zeros
// itself. As in package net it begins with a zero or with "@".
func Path(name string) (path string, ok bool) {
	if name != "" && (name[0] == '@' || name[0] == 0) && runtime.GOOS == "linux" {
		if name[0] == 0 {
			name = "@" + name[1:]
		}
		return name, len(name) <= maxPath
	}
	return name, name != "" && len(name) < maxPath && strings.IndexByte(name, 0) < 0
}

// maxSize is the size of a receive buffer: more than any datagram. UDP has 16
// bits for the length; a Unix datagram is limited by the sender's buffer, and
// 256 KiB is what asyncio reads (DG-02).
func (f Family) maxSize() int {
	if f == Unix {
		return 256 << 10
	}
	return 64 << 10
}

// Of returns how pc can be driven: by non-blocking calls on its descriptor, or,
// with None, only through its own methods. The type must be the very one of
// package net: one that embeds a *net.UDPConn may do anything in its methods.
func Of(pc net.PacketConn) (syscall.RawConn, Family) {
	if !supported {
		return nil, None
	}
	var raw syscall.RawConn
	var err error
	switch c := pc.(type) {
	case *net.UDPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return nil, None
	}
	if err != nil {
		return nil, None
	}
	f := None
	if err := raw.Control(func(fd uintptr) { f = familyOf(fd) }); err != nil || f == None {
		return nil, None
	}
	return raw, f
}

// IPPort is an internet address in a form that is quick to compare and to look
// up. An IPv4 address is in its IPv6-mapped form.
type IPPort struct {
	IP    [16]byte
	Scope uint32 // index of the interface, for link-local IPv6
	Port  uint16
}

// Addr is an address of any family.
type Addr struct {
	IPPort
	Path string // of a Unix socket; "@" stands for the zero of an abstract name
}

var v4Prefix = [12]byte{10: 0xff, 11: 0xff}

// Is4 reports whether a is an IPv4 address.
func (a *IPPort) Is4() bool { return [12]byte(a.IP[:12]) == v4Prefix }

// mapped is an IPv4 address in its IPv6 form.
func mapped(ip [4]byte) (a [16]byte) {
	copy(a[:], v4Prefix[:])
	copy(a[12:], ip[:])
	return a
}

// inet6 is the address as an IPv6 socket takes it, to which IPv4's unspecified
// address is nothing but unspecified, as in package net.
func (a *IPPort) inet6() [16]byte {
	if a.IP == mapped([4]byte{}) {
		return [16]byte{}
	}
	return a.IP
}

// FromAddrPort converts an address of package netip. An invalid one is IPv4's
// unspecified address, as in package net. It reports false if the address has
// a zone of that name that does not exist.
func FromAddrPort(ap netip.AddrPort) (a IPPort, ok bool) {
	addr := ap.Addr()
	a.Port = ap.Port()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	a.IP = addr.As16()
	if zone := addr.Zone(); zone != "" {
		a.Scope, ok = scopeOf(zone)
		return a, ok
	}
	return a, true
}

// UDPAddr converts a to an address of package net.
func (a *IPPort) UDPAddr() *net.UDPAddr {
	ip := netip.AddrFrom16(a.IP).Unmap()
	return &net.UDPAddr{IP: ip.AsSlice(), Port: int(a.Port), Zone: zoneOf(a.Scope)}
}
