package strand

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

type echoProto struct {
	NopProtocol
	t Transport
}

func (e *echoProto) ConnectionMade(t Transport) { e.t = t }
func (e *echoProto) DataReceived(b []byte)      { e.t.Write(b) }
func (e *echoProto) PauseWriting()              { e.t.PauseReading() }
func (e *echoProto) ResumeWriting()             { e.t.ResumeReading() }

func TestSmoke(t *testing.T) {
	s, err := CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *echoProto { return new(echoProto) }, nil)
	require.NoError(t, err)
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	require.NoError(t, err)
	go func() {
		for range 1000 {
			c.Write(make([]byte, 65536))
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, b, 65536000)
	c.Close()
	require.NoError(t, s.Shutdown(context.Background()))
}

func TestSmokePipe(t *testing.T) {
	a, c := net.Pipe()
	tr, _, err := Attach(context.Background(), a, func() *echoProto { return new(echoProto) }, nil)
	require.NoError(t, err)
	go func() {
		for range 100 {
			c.Write(make([]byte, 65536))
		}
	}()
	b := make([]byte, 6553600)
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	tr.Close()
	<-tr.Done()
	c.Close()
}

func BenchmarkEcho(b *testing.B) {
	s, err := CreateServer(context.Background(), "tcp", "127.0.0.1:0", func() *echoProto { return new(echoProto) }, nil)
	require.NoError(b, err)
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	require.NoError(b, err)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(buf)
		io.ReadFull(c, buf)
	}
	c.Close()
	s.Shutdown(context.Background())
}
