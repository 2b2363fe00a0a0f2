// Package serve holds the few lines that every Go echo server needs: its flags
// and its listener. How bytes are echoed is each server's own affair.
package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"log"
	"math/big"
	"net"
	"time"
)

// Options is what compare tells a server.
type Options struct {
	Net  string // tcp, unix or udp
	Addr string
	TLS  bool
	File string // send this file to every connection instead of echoing
}

// Flags parses the command line.
func Flags() Options {
	var o Options
	flag.StringVar(&o.Net, "net", "tcp", "network: tcp, unix or udp")
	flag.StringVar(&o.Addr, "addr", "127.0.0.1:0", "address, or path of a Unix socket")
	flag.BoolVar(&o.TLS, "tls", false, "speak TLS 1.3")
	flag.StringVar(&o.File, "file", "", "send this file instead of echoing")
	flag.Parse()
	return o
}

// URL is the form in which event-loop libraries take an address.
func (o Options) URL() string { return o.Net + "://" + o.Addr }

// Listen opens the listener or ends the program.
func (o Options) Listen() net.Listener {
	ln, err := net.Listen(o.Net, o.Addr)
	if err != nil {
		log.Fatal(err)
	}
	return ln
}

// TLSConfig returns a server configuration with a certificate made on the
// spot, so that no key lies about in the repository.
func TLSConfig() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13,
	}
}
