//go:build !unix

package strand

import (
	"errors"
	"net"
	"os"
	"syscall"
)

type boundSocket struct {
	*os.File
	addr net.Addr
}

func bindSocket(string, string, bool) (*boundSocket, error) { return nil, errors.ErrUnsupported }

func (*boundSocket) listen(int) (net.Listener, error) { return nil, errors.ErrUnsupported }

func setReusePort(syscall.RawConn) error { return errors.ErrUnsupported }

func (*listener) setBacklog(int) error { return nil }
