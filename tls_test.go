package strand_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
)

// testCert is a self-signed certificate for "localhost", and a pool that
// trusts it.
var testCert = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

// serverTLS and clientTLS are the options of the two ends.
func serverTLS() *strand.TLSOptions {
	cert, _ := testCert()
	return &strand.TLSOptions{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, ServerSide: true}
}

func clientTLS() *strand.TLSOptions {
	_, pool := testCert()
	return &strand.TLSOptions{Config: &tls.Config{RootCAs: pool}, ServerName: "localhost"}
}

// clientTLSConn is crypto/tls itself as the peer of a server of ours.
func clientTLSConn(conn net.Conn) *tls.Conn {
	o := clientTLS()
	o.Config.ServerName = o.ServerName
	return tls.Client(conn, o.Config)
}

func TestTLSEchoAndClose(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		r := newRecorder()
		r.onData = func(data []byte) { r.transport().Write(data) }
		client := clientTLSConn(peer)
		echoed := make(chan []byte, 1)
		go func() {
			client.Write(make([]byte, 100_000))
			b := make([]byte, 100_000)
			for n := 0; n < len(b); {
				k, err := client.Read(b[n:])
				if err != nil {
					break
				}
				n += k
			}
			echoed <- b
			client.Close()
		}()
		attach(t, ours, r, &strand.AttachOptions{
			TransportOptions: strand.TransportOptions{WriteBufferHigh: 1 << 20},
			TLS:              serverTLS(),
		})
		require.Len(t, await(t, "the echo", echoed), 100_000)
		require.NoError(t, r.awaitLost(t))
		r.wantCalls(t, "close_notify is an end of file", "ConnectionMade", "DataReceived 100000", "EOFReceived", "ConnectionLost nil")
		state, ok := strand.TLSState(r.transport())
		require.True(t, ok)
		require.True(t, state.HandshakeComplete)
	})
}

func TestStartTLSBothSides(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ours, peer := k.pair(t)
		server, client := newRecorder(), newRecorder()
		server.onData = func(data []byte) {
			tr := server.transport()
			if string(data) == "STARTTLS" {
				tr.Write([]byte("OK"))
				require.NoError(t, strand.StartTLS(tr, serverTLS(), func(err error) { tr.Write([]byte("hello")) }))
				tr.Write([]byte("early "))
				return
			}
			tr.Write(data)
		}
		attach(t, ours, server, nil)
		ct := attach(t, peer, client, nil)
		ct.Write([]byte("STARTTLS"))
		client.awaitData(t, 2)
		require.NoError(t, strand.StartTLSWait(context.Background(), ct, clientTLS()))
		client.awaitData(t, 13)
		require.Equal(t, "OKearly hello", string(client.received()))
		ct.Write([]byte("secret"))
		client.awaitData(t, 19)
		ct.Close()
		require.NoError(t, client.awaitLost(t))
		require.NoError(t, server.awaitLost(t))
	})
}
