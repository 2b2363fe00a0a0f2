// Package selfsigned makes the certificate of an example server that was given
// none.
package selfsigned

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"math/big"
	"net"
	"time"
)

// Flags defines the flags -cert and -key. After they were parsed, config returns
// the configuration of a server with that certificate, or else with one of New.
func Flags() (config func() (*tls.Config, error)) {
	certFile := flag.String("cert", "", "`file` with the certificate, in PEM; none: one is made in memory")
	keyFile := flag.String("key", "", "`file` with the certificate's key, in PEM")
	return func() (*tls.Config, error) {
		load := New
		if *certFile != "" || *keyFile != "" {
			load = func() (tls.Certificate, error) { return tls.LoadX509KeyPair(*certFile, *keyFile) }
		}
		cert, err := load()
		return &tls.Config{Certificates: []tls.Certificate{cert}}, err
	}
}

// New makes a certificate for localhost in memory, which lasts a day.
func New() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
