package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gostrand/strand"
)

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// tlsConfig makes the configuration of one side from its settings.
func (s *Scenario) tlsConfig(conf *TLSSettings, server bool) (*tls.Config, error) {
	certs, err := findCertificates(s.Path)
	if err != nil {
		return nil, err
	}
	pool, err := loadPool(filepath.Join(certs, "ca.pem"))
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		RootCAs: pool, ClientCAs: pool, NextProtos: conf.ALPN,
		MinVersion: tlsVersions[conf.Min], MaxVersion: tlsVersions[conf.Max],
		ServerName: conf.Hostname,
		// A ticket that the client has not read turns its close into a RST.
		SessionTicketsDisabled: true,
	}
	if c.ServerName == "" && !server {
		c.ServerName = "localhost"
	}
	if conf.Verify != nil && !*conf.Verify {
		c.InsecureSkipVerify = true
	}
	if conf.RequireCert {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, loadOwn(c, certs, conf.Cert, server)
}

// tlsOptions are the transport's TLS options at its creation: none if the
// scenario starts TLS later or never.
func (r *Run) tlsOptions() (*strand.TLSOptions, error) {
	if r.scenario.TLS == nil || r.scenario.TLS.Start {
		return nil, nil
	}
	return r.startTLSOptions()
}

func (r *Run) startTLSOptions() (*strand.TLSOptions, error) {
	conf, server := r.scenario.TLS, r.scenario.serverSide()
	config, err := r.scenario.tlsConfig(conf, server)
	return &strand.TLSOptions{
		Config:           config,
		ServerSide:       server && r.scenario.Role != "server" || conf.Start && server,
		HandshakeTimeout: seconds(conf.HandshakeTimeout),
		ShutdownTimeout:  seconds(conf.ShutdownTimeout),
	}, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func loadPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(path + ": no certificate")
	}
	return pool, nil
}

func loadOwn(c *tls.Config, certs, name string, server bool) error {
	if name == "" && server {
		name = "server"
	}
	if name == "" {
		return nil
	}
	base := filepath.Join(certs, name)
	own, err := tls.LoadX509KeyPair(base+".pem", base+".key")
	c.Certificates = []tls.Certificate{own}
	return err
}

// findCertificates looks for tls/ca.pem from the scenario's directory upwards,
// then from the working directory.
func findCertificates(path string) (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	scenario, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for _, dir := range []string{filepath.Dir(scenario), working} {
		for ; ; dir = filepath.Dir(dir) {
			for _, below := range []string{"tls", "testdata/conformance/tls"} {
				if _, err := os.Stat(filepath.Join(dir, below, "ca.pem")); err == nil {
					return filepath.Join(dir, below), nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("%s: no tls/ca.pem above it", path)
}
