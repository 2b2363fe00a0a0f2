package strand_test

import (
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// lastBytes is a protocol that answers, or not, and tells what came last.
type lastBytes struct {
	strand.NopProtocol
	t      strand.Transport
	answer bool
	got    chan int
	eof    bool
	lost   chan error
}

func (l *lastBytes) ConnectionMade(t strand.Transport) { l.t = t }

func (l *lastBytes) DataReceived(data []byte) {
	if l.answer {
		l.t.Write(data) // after a reset it fails, which ends the connection
	}
	l.got <- len(data)
}

func (l *lastBytes) EOFReceived() bool {
	l.eof = true
	return false
}

func (l *lastBytes) ConnectionLost(err error) { l.lost <- err }

// The last bytes of a connection and its end may come in one wake-up of the
// poller: neither the end nor a byte may be missed, whatever is done to save
// the read that would only find nothing (RD-08, RD-09, EO-01).
func TestEndTogetherWithTheLastBytes(t *testing.T) {
	rounds := 10_000
	if testing.Short() || raceDetector {
		rounds = 500
	}
	eachEnd(t, func(t *testing.T, ln net.Listener, answer bool, end func(*net.TCPConn)) {
		for range rounds {
			ours, peer := dialed(t, ln)
			endRound(t, ours, peer, peer, &lastBytes{answer: answer}, nil, end)
		}
	})
}

// The same through TLS, where the read that would only find nothing is
// crypto/tls's.
func TestEndTogetherWithTheLastRecord(t *testing.T) {
	rounds := 200
	if testing.Short() || raceDetector {
		rounds = 50
	}
	eachEnd(t, func(t *testing.T, ln net.Listener, answer bool, end func(*net.TCPConn)) {
		for range rounds {
			ours, peer := dialed(t, ln)
			client := clientTLSConn(peer)
			go client.Handshake() // Write waits for it
			endRound(t, ours, peer, client, &lastBytes{answer: answer}, &strand.AttachOptions{TLS: serverTLS()}, end)
		}
	})
}

func eachEnd(t *testing.T, test func(t *testing.T, ln net.Listener, answer bool, end func(*net.TCPConn))) {
	// With one processor the peer's two calls come before the reader wakes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ends := map[string]func(peer *net.TCPConn){
		"fin": func(peer *net.TCPConn) { peer.CloseWrite() },
		"rst": func(peer *net.TCPConn) {
			peer.SetLinger(0)
			peer.Close()
		},
	}
	for name, end := range ends {
		for _, answer := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " silent", true: " answered"}[answer], func(t *testing.T) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				defer ln.Close()
				test(t, ln, answer, end)
			})
		}
	}
}

func dialed(t *testing.T, ln net.Listener) (ours net.Conn, peer *net.TCPConn) {
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	for {
		ours, err = ln.Accept()
		require.NoError(t, err)
		if ours.RemoteAddr().String() == conn.LocalAddr().String() {
			return ours, conn.(*net.TCPConn)
		}
		ours.Close() // another process's, that dialed a port which was somebody else's before
	}
}

// endRound warms a connection up, and then sends the last bytes, through w, and
// the end.
func endRound(t *testing.T, ours net.Conn, peer *net.TCPConn, w io.Writer, l *lastBytes, opts *strand.AttachOptions, end func(*net.TCPConn)) {
	defer peer.Close()
	l.got, l.lost = make(chan int, 16), make(chan error, 1)
	_, _, err := strand.Attach(t.Context(), ours, func() *lastBytes { return l }, opts)
	require.NoError(t, err)
	var p [64]byte
	for range 6 {
		_, err = w.Write(p[:])
		require.NoError(t, err)
		require.Equal(t, 64, await(t, "the bytes", l.got))
	}
	w.Write(p[:])
	end(peer)
	await(t, "the end of the connection", l.lost)
	require.Equal(t, 64, await(t, "the last bytes", l.got), "what came before the end is not lost")
}
