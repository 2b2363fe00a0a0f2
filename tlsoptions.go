package strand

import (
	"cmp"
	"crypto/tls"
	"net"
	"strings"
	"time"
)

const defaultHandshakeTimeout = 60 * time.Second

var errPrefix = badOption("TLSOptions.Prefix is for one connection: Attach and StartTLS")

// TLSOptions turn TLS on in the options of an entry point, or for StartTLS.
// asyncio: the ssl arguments.
type TLSOptions struct {
	// Config is the configuration, which must not be changed afterwards. A
	// client's may be nil: the peer's certificate is verified against the
	// system's roots. A server's must have a certificate, and is used as it
	// is, so that connections share what resumes their sessions. To change
	// certificates later, use its functions, which are called on a
	// connection's goroutine beside its callbacks. Renegotiation is always
	// refused.
	Config *tls.Config

	// ServerName is the name that a client checks the certificate against, and
	// sends. Default: Config.ServerName, then the host connected to. Attach,
	// StartTLS and Unix sockets know no host: there it is an error to give no
	// name, unless Config has InsecureSkipVerify. asyncio: server_hostname.
	ServerName string

	// ServerSide makes this end the server. Attach and StartTLS only: a server
	// needs no word for it, and to CreateConnection it is an error.
	ServerSide bool

	// HandshakeTimeout limits the handshake. Default 60 s; negative is an
	// error. asyncio: ssl_handshake_timeout.
	HandshakeTimeout time.Duration

	// ShutdownTimeout is how long Close, after all output is out, waits for
	// the peer's close_notify. Default 30 s; negative is an error. asyncio:
	// ssl_shutdown_timeout.
	ShutdownTimeout time.Duration

	// StrictEOF reports a peer that ends the connection without close_notify,
	// which an attacker can do as well, as io.ErrUnexpectedEOF. Without it
	// that is an end of file like any other, as in asyncio.
	StrictEOF bool

	// Prefix is what of TLS's bytes was received already: the ClientHello
	// that came in one segment with a PROXY header, say. It is copied. Attach
	// and StartTLS only; elsewhere it is an error.
	Prefix []byte
}

// tlsSettings are TLSOptions with everything filled in.
type tlsSettings struct {
	config    *tls.Config
	server    bool
	handshake time.Duration
	shutdown  time.Duration
	strict    bool
	prefix    []byte
}

// resolve checks the options of one end. host is what a client connects to, ""
// if that is not known.
func (o *TLSOptions) resolve(server bool, host string) (*tlsSettings, error) {
	if o.HandshakeTimeout < 0 || o.ShutdownTimeout < 0 {
		return nil, badOption("the TLS timeouts must not be negative")
	}
	config := o.Config
	if config == nil {
		config = new(tls.Config)
	}
	switch {
	case !server:
		config = config.Clone()
		config.Renegotiation = tls.RenegotiateNever
		config.ServerName = cmp.Or(o.ServerName, config.ServerName, host)
		if config.ServerName == "" && !config.InsecureSkipVerify {
			return nil, badOption("TLS needs a ServerName to verify, or a Config with InsecureSkipVerify")
		}
	case len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil:
		return nil, badOption("a TLS server needs a certificate in its Config")
	}
	return &tlsSettings{
		config:    config,
		server:    server,
		handshake: orDefault(o.HandshakeTimeout, defaultHandshakeTimeout),
		shutdown:  orDefault(o.ShutdownTimeout, defaultShutdownTimeout),
		strict:    o.StrictEOF,
		prefix:    append([]byte(nil), o.Prefix...),
	}, nil
}

// resolveFor is resolve for a client that connects to address. Nil options are
// no TLS.
func (o *TLSOptions) resolveFor(network, address string) (*tlsSettings, error) {
	if o == nil {
		return nil, nil
	}
	switch {
	case len(o.Prefix) > 0:
		return nil, errPrefix
	case o.ServerSide:
		return nil, badOption("CreateConnection is TLS's client; for a server that connects use Attach or StartTLS with ServerSide")
	}
	host := ""
	if network != "unix" {
		host, _, _ = net.SplitHostPort(address) // connecting finds out what is wrong with it
		host, _, _ = strings.Cut(host, "%")     // the zone is the local machine's, and no certificate has it
	}
	return o.resolve(false, host)
}

// Cipher is what ExtraInfo(ExtraCipher) returns. asyncio: the triple of
// SSLSocket.cipher.
type Cipher struct {
	Name    string // the cipher suite's name
	Version string // "TLS 1.3", say
	Bits    int    // the length of the secret key
}

// TLSState returns the state of the connection's TLS session, as it was after
// the handshake, and whether there is one. It keeps its answer after the end.
// asyncio: get_extra_info("ssl_object").
func TLSState(t BaseTransport) (tls.ConnectionState, bool) {
	state, ok := t.ExtraInfo(ExtraSSLObject).(tls.ConnectionState)
	return state, ok
}

func (s *stream) tlsInfo(name string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sec == nil || s.sec.top == nil {
		return nil
	}
	state := s.sec.top.conn.ConnectionState()
	switch name {
	case ExtraSSLContext:
		return s.sec.top.set.config
	case ExtraSSLObject:
		return state
	case ExtraCipher:
		return cipherOf(state)
	}
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

func cipherOf(state tls.ConnectionState) Cipher {
	c := Cipher{Name: tls.CipherSuiteName(state.CipherSuite), Version: tls.VersionName(state.Version), Bits: 128}
	switch state.CipherSuite {
	case tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		c.Bits = 256
	}
	return c
}
