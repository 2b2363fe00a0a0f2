package strandtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/gostrand/strand"
)

// TLSOptions returns options for the two ends of a TLS connection: a client
// that expects the name "localhost" and trusts the server, and the server. The
// certificate is made once for the process, and is valid in synctest bubbles
// too, where it is the year 2000.
func TLSOptions() (client, server *strand.TLSOptions) {
	cert, pool := certificate()
	client = &strand.TLSOptions{Config: &tls.Config{RootCAs: pool}, ServerName: "localhost"}
	server = &strand.TLSOptions{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, ServerSide: true}
	return client, server
}

// certificate is a self-signed certificate, and a pool that trusts it.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		NotBefore:             time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	leaf, err := x509.ParseCertificate(der)
	must(err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}
