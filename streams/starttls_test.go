package streams_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/streams"
)

// SW-09; test_start_tls: the server's side is known, and the same Reader and
// Writer go on. The name to verify is the host that was connected to.
func TestStartTLS(t *testing.T) {
	_, address := start(t, func(r *streams.Reader, w *streams.Writer) {
		ctx := context.Background()
		echo := func() error {
			line, err := r.ReadLine(ctx)
			if err == nil {
				_, err = w.Write(line)
			}
			return err
		}
		if err := errors.Join(echo(), w.StartTLS(ctx, serverTLS()), echo()); err != nil {
			t.Errorf("the server: %v", err)
		}
	}, nil)
	r, w := dial(t, "tcp", address, nil)
	io.WriteString(w, "hello world 1!\n")
	wantData(t, "hello world 1!\n")(r.ReadLine(within(t)))
	require.Nil(t, w.ExtraInfo(strand.ExtraSSLContext))
	require.NoError(t, w.StartTLS(within(t), clientTLS()))
	require.NotNil(t, w.ExtraInfo(strand.ExtraSSLContext))
	io.WriteString(w, "hello world 2!\n")
	wantData(t, "hello world 2!\n")(r.ReadLine(within(t)))
	w.Close()
	require.NoError(t, w.WaitClosed(within(t)))
}

// tlsPair is two streams over one connection; the second wants to be told that
// it is the server.
func tlsPair(t *testing.T) (client, server *stream) {
	a := open(t, tcp, 0)
	_, p, err := strand.Attach(context.Background(), a.peer, func() *stream {
		q := streams.NewProtocol(0)
		return &stream{Protocol: q, Reader: q.Reader(), Writer: q.Writer(), TB: t, peer: a.peer, changed: make(chan struct{})}
	}, nil)
	require.NoError(t, err)
	t.Cleanup(p.end)
	return a, p
}

func serverSide(o *strand.TLSOptions) *strand.TLSOptions {
	o.ServerSide = true
	return o
}

func named(o *strand.TLSOptions) *strand.TLSOptions {
	o.ServerName = "localhost"
	return o
}

// SW-09: what was written before goes out in clear, what the Reader gets
// afterwards is plaintext again, and pauses as it did.
func TestStartTLSGoesOn(t *testing.T) {
	client, server := tlsPair(t)
	upgrade := asyncErr(func() error { return server.StartTLS(within(t), serverSide(serverTLS())) })
	require.NoError(t, client.StartTLS(within(t), named(clientTLS())))
	require.NoError(t, await(t, "StartTLS", upgrade).err)
	want := pattern(1 << 20)
	server.Write(want)
	server.Close()
	client.await("a pause", func() bool { return client.received > 2*64<<10 })
	got, err := client.ReadAll(within(t))
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.True(t, client.IsClosing(), "SW-07: under TLS the peer's end closes")
	require.NoError(t, client.WaitClosed(within(t)))
}

// SW-09: what came before the upgrade was read may have been injected.
func TestStartTLSRefusesPlaintext(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("EVIL\n")
	require.ErrorIs(t, s.StartTLS(within(t), serverSide(serverTLS())), strand.ErrPlaintextPending)
	require.False(t, s.IsClosing(), "nothing has changed")
	s.wantRest("EVIL\n")
	s.feed("plain")
	s.wantRest("plain")

	upgrade := asyncErr(func() error { return s.StartTLS(within(t), serverSide(serverTLS())) })
	o := clientTLS().Config
	o.ServerName = "localhost"
	require.NoError(t, tls.Client(s.peer, o).HandshakeContext(within(t)))
	require.NoError(t, await(t, "StartTLS", upgrade).err)
}

// SW-09: a client that was told to begin does so before the server's StartTLS
// may have been called. What it sent is the session's, not plaintext.
func TestStartTLSAfterTheClientHello(t *testing.T) {
	for _, seen := range []int{0, 1} { // bytes that were read to see whether this is TLS
		s := open(t, tcp, 1) // and so the transport is paused
		o := clientTLS().Config
		o.ServerName = "localhost"
		client := tls.Client(s.peer, o)
		handshake := asyncErr(func() error { return client.HandshakeContext(within(t)) })
		s.await("the ClientHello", func() bool { return s.received > 0 })
		opts := serverSide(serverTLS())
		var err error
		opts.Prefix, err = s.ReadExactly(cancelled, seen)
		require.NoError(t, err)
		require.NoError(t, s.StartTLS(within(t), opts))
		require.NoError(t, await(t, "the handshake", handshake).err)
		require.Zero(t, s.Buffered())
		_, err = io.WriteString(client, "secret")
		require.NoError(t, err)
		wantData(t, "secret")(s.ReadExactly(within(t), len("secret")))
	}
}

// What only looks like it fails the handshake, and nobody reads it.
func TestStartTLSAfterAFakeClientHello(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("\x16EVIL\n")
	err := s.StartTLS(within(t), serverSide(serverTLS()))
	var header tls.RecordHeaderError
	require.ErrorAs(t, err, &header)
	got, err := s.ReadAll(within(t))
	require.Error(t, err)
	require.Empty(t, got)
}

// A client is never spoken to first.
func TestStartTLSClientRefusesAnything(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("\x16EVIL\n")
	require.ErrorIs(t, s.StartTLS(within(t), named(clientTLS())), strand.ErrPlaintextPending)
	s.wantRest("\x16EVIL\n")
}

// SW-09: it drains first.
func TestStartTLSDrains(t *testing.T) {
	s := open(t, tcp, 0)
	s.fill()
	require.Equal(t, context.Canceled, s.StartTLS(cancelled, serverSide(serverTLS())))
	require.False(t, s.IsClosing(), "the upgrade has not begun")
}

func TestStartTLSFails(t *testing.T) {
	client, server := tlsPair(t)
	upgrade := asyncErr(func() error { return server.StartTLS(within(t), serverSide(serverTLS())) })
	err := client.StartTLS(within(t), &strand.TLSOptions{ServerName: "localhost"}) // knows no such authority
	var verification *tls.CertificateVerificationError
	require.ErrorAs(t, err, &verification)
	require.Equal(t, err, client.WaitClosed(within(t)))
	require.Error(t, await(t, "StartTLS", upgrade).err)
}

// Options that cannot be right change nothing.
func TestStartTLSBadOptions(t *testing.T) {
	s := open(t, tcp, 0)
	require.Error(t, s.StartTLS(within(t), nil), "no name to verify")
	s.feed("plain")
	s.wantRest("plain")
}

// A peer that does not answer is given up with the context.
func TestStartTLSCancelled(t *testing.T) {
	s := open(t, tcp, 0)
	ctx, cancel := context.WithCancelCause(context.Background())
	upgrade := asyncErr(func() error { return s.StartTLS(ctx, named(clientTLS())) })
	_, err := s.peer.Read(make([]byte, 1)) // the ClientHello
	require.NoError(t, err)
	why := errors.New("enough")
	cancel(why)
	require.Equal(t, why, await(t, "StartTLS", upgrade).err)
	require.NoError(t, s.WaitClosed(within(t)))
}

func TestStartTLSOnAClosedStream(t *testing.T) {
	s := open(t, tcp, 0)
	s.Close()
	s.awaitLost()
	require.ErrorIs(t, s.StartTLS(within(t), named(clientTLS())), net.ErrClosed)
}

// A connection that ends before the handshake begins, or while it runs, ends
// StartTLS, too.
func TestStartTLSAndTheEnd(t *testing.T) {
	for i := range 40 {
		s := open(t, tcp, 0)
		upgrade := asyncErr(func() error { return s.StartTLS(within(t), named(clientTLS())) })
		abortLater(s.Transport(), i%8)
		require.ErrorIs(t, await(t, "StartTLS", upgrade).err, net.ErrClosed)
	}
}

// abortLater aborts after some turns.
func abortLater(tr strand.Transport, turns int) {
	if turns == 0 {
		tr.Abort()
		return
	}
	tr.CallSoon(func() { abortLater(tr, turns-1) })
}
