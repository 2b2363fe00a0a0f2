package streams_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/internal/testkit"
	"github.com/gostrand/strand/streams"
)

// The adapter is a net.Conn in the eyes of those who wrote down what that is.
func TestConn(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := k.pair(t)
				conns := make([]net.Conn, 2)
				var ends []*streams.Writer
				for i, c := range []net.Conn{a, b} {
					r, w, err := streams.Attach(context.Background(), c, nil)
					if err != nil {
						return nil, nil, nil, err
					}
					conns[i], ends = streams.NewConn(r, w), append(ends, w)
				}
				return conns[0], conns[1], func() {
					for _, w := range ends {
						w.Transport().Abort() // a Close may wait for a peer that does not read any more
					}
					for _, w := range ends {
						w.WaitClosed(context.Background())
					}
				}, nil
			})
		})
	}
}

// Closing ends a Read with net.ErrClosed, and not with the peer's end of file.
func TestConnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		read := async(func() ([]byte, error) { return readInto(c, 1) })
		synctest.Wait()
		require.NoError(t, c.Close())
		require.ErrorIs(t, (<-read).err, net.ErrClosed)
		s.awaitLost()
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, c.SetDeadline(time.Now()), net.ErrClosed)
		require.NoError(t, c.Close())
	})
}

// What is written before Close arrives, as from a socket.
func TestConnCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		_, err := c.Write(make([]byte, 50_000))
		require.NoError(t, err)
		c.Close()
		got, err := io.ReadAll(s.peer)
		require.NoError(t, err)
		require.Len(t, got, 50_000)
	})
}

// Write does not hold more than the marks ask for, and tells how much it has
// written when it gives up.
func TestConnWriteWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Hour)))
		began := time.Now()
		n, err := c.Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(began))
		require.Equal(t, 64<<10+1, n, "one byte over the mark")
		require.Equal(t, n, s.Transport().WriteBufferSize())
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		go io.Copy(io.Discard, s.peer)
		n, err = c.Write(make([]byte, 1<<20))
		require.NoError(t, err)
		require.Equal(t, 1<<20, n)
	})
}

// A hard limit above the mark is never met by a Write that waits.
func TestConnWriteAndTheHardLimit(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		opts := &streams.AttachOptions{}
		opts.WriteBufferHigh, opts.WriteBufferMax = 1000, 1001
		r, w, err := streams.Attach(context.Background(), ours, opts)
		require.NoError(t, err)
		c := streams.NewConn(r, w)
		want := pattern(1 << 20)
		received := async(func() ([]byte, error) { return io.ReadAll(peer) })
		_, err = c.Write(want[:1<<19])
		require.NoError(t, err)
		_, err = w.ReadFrom(bytes.NewReader(want[1<<19:]))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		o := await(t, "the peer's end of file", received)
		require.NoError(t, o.err)
		require.True(t, bytes.Equal(want, o.data))
		require.NoError(t, w.WaitClosed(within(t)))
		require.NoError(t, peer.Close())
	})
}

// Closing ends a Write that waits, too.
func TestConnCloseEndsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		written := asyncErr(func() error { _, err := c.Write(make([]byte, 1<<20)); return err })
		synctest.Wait()
		require.Empty(t, written)
		require.NoError(t, c.Close())
		require.ErrorIs(t, (<-written).err, net.ErrClosed)
	})
}

// What was received before there was a Conn is the Conn's to read.
func TestConnReadsWhatIsThere(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("here")
	wantData(t, "here")(readInto(streams.NewConn(s.Reader, s.Writer), 10))
}

// A deadline that moves while a Read waits counts from where it is now.
func TestConnDeadlineMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		began := time.Now()
		require.NoError(t, c.SetReadDeadline(began.Add(time.Minute)))
		read := async(func() ([]byte, error) { return readInto(c, 1) })
		synctest.Wait()
		require.NoError(t, c.SetReadDeadline(began.Add(time.Hour)))
		require.ErrorIs(t, (<-read).err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(began))
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		s.feed("x")
		wantData(t, "x")(readInto(c, 1))
	})
}

// A second Read waits for its turn, instead of ErrConcurrentRead.
func TestConnReadsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		first := async(func() ([]byte, error) { return readInto(c, 1) })
		second := async(func() ([]byte, error) { return readInto(c, 1) })
		synctest.Wait()
		s.feed("xx")
		for _, got := range []<-chan outcome{first, second} {
			o := <-got
			wantData(t, "x")(o.data, o.err)
		}
	})
}

// So does a second Write: each comes out in one piece, however long it waits.
func TestConnWritesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		c := streams.NewConn(s.Reader, s.Writer)
		const size = 1 << 20
		for _, b := range []byte("ab") {
			go c.Write(bytes.Repeat([]byte{b}, size))
			synctest.Wait()
		}
		got := make([]byte, 2*size)
		_, err := io.ReadFull(s.peer, got)
		require.NoError(t, err)
		require.Equal(t, size, bytes.IndexByte(got, 'b'))
		require.Equal(t, size, bytes.Count(got, []byte("b")))
		require.Negative(t, bytes.IndexByte(got[size:], 'a'))
	})
}

func TestConnCloseWrite(t *testing.T) {
	s := open(t, tcp, 0)
	c := streams.NewConn(s.Reader, s.Writer)
	require.NoError(t, c.CloseWrite())
	_, err := c.Write([]byte("x"))
	require.ErrorIs(t, err, strand.ErrWriteAfterEOF, "there is nothing to wait for")
	got, err := io.ReadAll(s.peer)
	wantData(t, "")(got, err)
	require.Equal(t, s.peer.LocalAddr().String(), c.RemoteAddr().String())
	require.Equal(t, s.peer.RemoteAddr().String(), c.LocalAddr().String())
}

// Reader and Writer are what the standard library's protocols ask for.
func TestStandardLibrary(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("GET /path HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\n\r\nbody")
	in := bufio.NewReader(s.Reader)
	req, err := http.ReadRequest(in)
	require.NoError(t, err)
	require.Equal(t, "/path", req.URL.Path)
	body, err := io.ReadAll(req.Body)
	wantData(t, "body")(body, err)

	s.feed("220 ready\r\n")
	tp := textproto.NewReader(in)
	code, msg, err := tp.ReadResponse(220)
	require.NoError(t, err)
	require.Equal(t, 220, code)
	require.Equal(t, "ready", msg)

	out := bufio.NewWriter(s.Writer)
	require.NoError(t, textproto.NewWriter(out).PrintfLine("HELO %s", "there"))
	resp := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader("hi")), ContentLength: 2}
	require.NoError(t, resp.Write(s.Writer))
	require.NoError(t, s.WriteEOF())
	got, err := io.ReadAll(s.peer)
	wantData(t, "HELO there\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")(got, err)

	var both io.ReadWriteCloser = struct {
		*streams.Reader
		*streams.Writer
	}{s.Reader, s.Writer}
	require.NoError(t, textproto.NewConn(both).Close())
}

// In steady state receiving allocates nothing, however large the pieces.
func TestReadAllocatesNothing(t *testing.T) {
	if testkit.Race {
		t.Skip("under the race detector sync.Pool forgets on purpose")
	}
	for _, size := range []int{64, 100_000} {
		p := streams.NewProtocol(0)
		p.ConnectionMade(nil)
		data, dst := make([]byte, size), make([]byte, size)
		allocs := testing.AllocsPerRun(1000, func() {
			p.DataReceived(data)
			if n, err := p.Reader().Read(dst); n != size || err != nil {
				t.Fatal(n, err)
			}
		})
		require.Zero(t, allocs, size)
	}
}
