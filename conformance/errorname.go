package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/gostrand/strand"
)

// raised is what the action "raise NAME" panics with.
type raised string

func (r raised) Error() string { return "raised " + string(r) }

// errnoNames has the errors that scenarios can meet; the standard library
// gives an errno's text but not its name.
var errnoNames = map[syscall.Errno]string{
	syscall.ECONNRESET:   "ECONNRESET",
	syscall.EPIPE:        "EPIPE",
	syscall.ECONNREFUSED: "ECONNREFUSED",
	syscall.ECONNABORTED: "ECONNABORTED",
	syscall.ENOENT:       "ENOENT",
	syscall.EACCES:       "EACCES",
	syscall.EIO:          "EIO",
	syscall.EMSGSIZE:     "EMSGSIZE",
	syscall.ENOTCONN:     "ENOTCONN",
	syscall.EADDRINUSE:   "EADDRINUSE",
	syscall.EBADF:        "EBADF",
	syscall.EINVAL:       "invalid",
}

// errorName writes an error in words that do not depend on the language.
func errorName(err error) string {
	var (
		r     raised
		errno syscall.Errno
		addr  *net.AddrError
	)
	switch {
	case err == nil:
		return "null"
	case errors.As(err, &r):
		return r.Error()
	case errors.Is(err, strand.ErrWriteAfterEOF):
		return "after write_eof"
	case errors.Is(err, strand.ErrSendfileActive):
		return "sendfile in progress"
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, os.ErrProcessDone):
		return "ESRCH"
	case errors.Is(err, errors.ErrUnsupported):
		return "unsupported"
	case errors.As(err, &errno) && errnoNames[errno] != "":
		return errnoNames[errno]
	case isTLS(err):
		return "tls"
	case errors.As(err, &addr):
		return "invalid"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "ended early"
	case strings.Contains(err.Error(), "empty buffer"):
		return "empty buffer" // the library has no exported name for it
	case strings.HasPrefix(err.Error(), "strand: "):
		return "invalid" // nor for what ValueError says in Python
	}
	return err.Error()
}

// isTLS reports whether err comes from crypto/tls or from a certificate.
func isTLS(err error) bool {
	var (
		op       *net.OpError
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		host     x509.HostnameError
		unknown  x509.UnknownAuthorityError
		isAlert  = errors.As(err, &op) && (op.Op == "local error" || op.Op == "remote error")
		isVerify = errors.As(err, &verify) || errors.As(err, &host) || errors.As(err, &unknown)
	)
	return isAlert || isVerify || errors.As(err, &record) || strings.HasPrefix(err.Error(), "tls: ")
}
