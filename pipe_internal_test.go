//go:build unix

package strand

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/internal/testkit"
)

// lateConn holds the writer up between its last system call and the note that
// there is no writer any more.
type lateConn struct {
	syscall.RawConn
	out, release chan struct{}
}

func (c lateConn) Write(f func(fd uintptr) bool) error {
	err := c.RawConn.Write(f)
	close(c.out)
	<-c.release
	return err
}

// lostProtocol tells how the connection ended.
type lostProtocol struct {
	NopProtocol
	lost chan error
}

func (p lostProtocol) ConnectionLost(err error) { p.lost <- err }

// WP-03: a reader that has everything and goes away is no failure, also if the
// writer goroutine has not come back yet from sending the last of it.
func TestWritePipeReaderGoneBesideTheWriter(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cfg, err := new(TransportOptions).resolve()
	require.NoError(t, err)
	s := newStream(newPipeConn(nil, w), cfg)
	late := lateConn{s.wraw, make(chan struct{}), make(chan struct{})}
	s.wraw = late
	p := lostProtocol{lost: make(chan error, 1)}
	s.proto.Store(bind(p))
	require.NoError(t, s.start(context.Background()))
	const size = 1 << 20
	_, err = s.Write(make([]byte, size))
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, r, size)
	require.NoError(t, err)
	testkit.Await(t, "the writer's last system call", late.out)
	require.Zero(t, s.WriteBufferSize())
	require.NoError(t, r.Close())
	testkit.Await(t, "the end", s.Context().Done())
	close(late.release)
	require.NoError(t, testkit.Await(t, "ConnectionLost", p.lost))
	testkit.Await(t, "the rest", s.Done())
}
