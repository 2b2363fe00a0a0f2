package conformance

import (
	"crypto/tls"
	"net"
	"reflect"
	"strconv"
	"strings"
	"syscall"

	"github.com/gostrand/strand"
)

// A question is something that can be asked of a transport. arg is what stands
// behind the colon.
type question func(r *Run, target any, arg string) string

var questions = map[string]question{
	"is_closing":    askIsClosing,
	"is_reading":    askIsReading,
	"can_write_eof": askCanWriteEOF,
	"size":          askSize,
	"size>0":        func(_ *Run, t any, _ string) string { return yes(sizeOf(t) > 0) },
	"size>high":     func(_ *Run, t any, _ string) string { return yes(sizeOf(t) > high(t)) },
	"size<=high":    func(_ *Run, t any, _ string) string { return yes(sizeOf(t) <= high(t)) },
	"size>low":      func(_ *Run, t any, _ string) string { return yes(sizeOf(t) > low(t)) },
	"size<=low":     func(_ *Run, t any, _ string) string { return yes(sizeOf(t) <= low(t)) },
	"limits":        askLimits,
	"protocol":      askProtocol,
	"extra":         askExtra,
	"nodelay":       askNoDelay,
	"broadcast":     askBroadcast,
	"pid":           askPid,
	"returncode":    func(_ *Run, t any, _ string) string { return returnCode(t) },
	"pipe":          askPipe,
	"tls":           askTLS,
}

func (c *connection) ask(target any, what string) string {
	name, arg, _ := strings.Cut(what, ":")
	return questions[name](c.run, target, arg)
}

func yes(b bool) string { return strconv.FormatBool(b) }

// buffering is the part of a transport that speaks of its output buffer.
type buffering interface {
	WriteBufferSize() int
	WriteBufferLimits() (low, high int)
}

func sizeOf(t any) int { return t.(buffering).WriteBufferSize() }

func low(t any) int {
	low, _ := t.(buffering).WriteBufferLimits()
	return low
}

func high(t any) int {
	_, high := t.(buffering).WriteBufferLimits()
	return high
}

func askIsClosing(_ *Run, t any, _ string) string {
	return yes(t.(strand.BaseTransport).IsClosing())
}

func askIsReading(_ *Run, t any, _ string) string {
	return yes(t.(strand.ReadTransport).IsReading())
}

func askCanWriteEOF(_ *Run, t any, _ string) string {
	return yes(t.(strand.WriteTransport).CanWriteEOF())
}

func askSize(_ *Run, t any, _ string) string { return strconv.Itoa(sizeOf(t)) }

func askLimits(_ *Run, t any, _ string) string {
	return "low=" + strconv.Itoa(low(t)) + " high=" + strconv.Itoa(high(t))
}

func askProtocol(_ *Run, target any, _ string) string {
	var p any
	switch t := target.(type) {
	case strand.Transport:
		p = t.Protocol()
	case strand.DatagramTransport:
		p = t.Protocol()
	case strand.SubprocessTransport:
		p = t.Protocol()
	}
	if own, ok := p.(interface{ self() *reactions }); ok {
		return "p" + strconv.Itoa(own.self().number)
	}
	return "null"
}

// askExtra shows addresses without what differs from run to run, and of
// everything else only whether it is there.
func askExtra(r *Run, t any, name string) string {
	value := t.(strand.BaseTransport).ExtraInfo(name)
	if name == strand.ExtraSockname || name == strand.ExtraPeername {
		addr, _ := value.(net.Addr)
		return r.addressName(addr)
	}
	if v := reflect.ValueOf(value); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return "null"
	}
	return "present"
}

func askNoDelay(_ *Run, t any, _ string) string {
	return yes(socketOption(t, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
}

func askBroadcast(_ *Run, t any, _ string) string {
	return yes(socketOption(t, syscall.SOL_SOCKET, syscall.SO_BROADCAST))
}

// socketOption reads a socket option of a transport.
func socketOption(t any, level, option int) bool {
	value := 0
	raw, ok := t.(strand.BaseTransport).ExtraInfo(strand.ExtraSocket).(syscall.RawConn)
	if ok {
		_ = raw.Control(func(fd uintptr) { value = getsockopt(fd, level, option) })
	}
	return value != 0
}

func askPid(_ *Run, t any, _ string) string {
	if t.(strand.SubprocessTransport).Pid() > 0 {
		return "positive"
	}
	return "other"
}

func returnCode(t any) string {
	code, exited := t.(strand.SubprocessTransport).ReturnCode()
	if !exited {
		return "null"
	}
	return strconv.Itoa(code)
}

func askPipe(_ *Run, t any, fd string) string {
	n, err := strconv.Atoi(fd)
	if err != nil || t.(strand.SubprocessTransport).PipeTransport(n) == nil {
		return "null"
	}
	return "present"
}

// askTLS answers facts of the TLS layer: version, alpn, peer (its common name).
func askTLS(_ *Run, t any, what string) string {
	state, ok := t.(strand.BaseTransport).ExtraInfo(strand.ExtraSSLObject).(tls.ConnectionState)
	switch {
	case !ok:
		return "null"
	case what == "version":
		return strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1)
	case what == "alpn" && state.NegotiatedProtocol != "":
		return state.NegotiatedProtocol
	case what == "peer" && len(state.PeerCertificates) > 0:
		return state.PeerCertificates[0].Subject.CommonName
	}
	return "null"
}
