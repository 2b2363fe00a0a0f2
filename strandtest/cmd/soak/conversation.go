package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
)

// kind is how a connection goes and ends.
type kind uint8

const (
	echo        kind = iota // all is echoed, then the client closes
	halfClose               // the client half-closes, the server answers that
	clientAbort             // in the middle
	serverAbort
	clientReset // as abort, with an RST
	kinds
)

func (k kind) String() string {
	return [...]string{"echo", "half close", "client abort", "server abort", "client reset"}[k]
}

// violent kinds lose bytes.
func (k kind) violent() bool { return k >= clientAbort }

// The header says which connection this is: its id, its kind and how many
// bytes follow.
const headerSize = 8 + 1 + 4

// pattern is what is sent: each byte depends on its place. Its length is prime.
var pattern = func() []byte {
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, 65521)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}()

// piece returns up to n bytes of the endless stream from an offset on.
func piece(offset int64, n int) []byte {
	rest := pattern[offset%int64(len(pattern)):]
	return rest[:min(n, len(rest))]
}

// matches compares received bytes with the pattern.
func matches(data []byte, offset int64) bool {
	for len(data) > 0 {
		want := piece(offset, len(data))
		if !bytes.Equal(data[:len(want)], want) {
			return false
		}
		data, offset = data[len(want):], offset+int64(len(want))
	}
	return true
}

// servers are the ways to connect.
type servers struct {
	dir              string
	tcp, unix, tls   *strand.Server
	clientTLS        *strand.TLSOptions
	tcpAddr, tlsAddr string
}

func listen(l *ledger) (*servers, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	s := &servers{dir: dir}
	client, server := strandtest.TLSOptions()
	s.clientTLS = client
	factory := func() *serverEnd { return &serverEnd{l: l} }
	ctx := context.Background()
	var errs [3]error
	s.tcp, errs[0] = strand.CreateServer(ctx, "tcp", "127.0.0.1:0", factory, &strand.ServerOptions{TransportOptions: options()})
	s.tls, errs[1] = strand.CreateServer(ctx, "tcp", "127.0.0.1:0", factory, &strand.ServerOptions{TransportOptions: options(), TLS: server})
	s.unix, errs[2] = strand.CreateServer(ctx, "unix", s.unixAddr(), factory, &strand.ServerOptions{TransportOptions: options()})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	s.tcpAddr, s.tlsAddr = s.tcp.Addrs()[0].String(), s.tls.Addrs()[0].String()
	return s, nil
}

func (s *servers) unixAddr() string { return filepath.Join(s.dir, "s") }

// close waits for what is left of the servers' ends.
func (s *servers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, server := range []*strand.Server{s.tcp, s.tls, s.unix} {
		if err := server.Shutdown(ctx); err != nil {
			fmt.Println("shutdown:", err)
		}
	}
	os.RemoveAll(s.dir)
}

// connect makes one connection and waits for its end.
func (l *ledger) connect(s *servers, r *rand.Rand) {
	k := kind(r.IntN(int(kinds)))
	if r.IntN(3) > 0 {
		k = echo
	}
	network, address, o := "tcp", s.tcpAddr, &strand.ConnectOptions{TransportOptions: options()}
	switch r.IntN(4) {
	case 0:
		network, address = "unix", s.unixAddr()
	case 1:
		address, o.TLS = s.tlsAddr, s.clientTLS
		if k == halfClose {
			k = echo // TLS has none
		}
	}
	a := l.newAccount(k)
	l.connecting <- struct{}{}
	t, _, err := strand.CreateConnection(context.Background(), network, address, func() *clientEnd { return newClientEnd(l, a, r) }, o)
	<-l.connecting
	if err != nil {
		l.drop(a, err)
		time.Sleep(time.Duration(r.IntN(int(time.Second))))
		return
	}
	<-t.Done()
}

// clientEnd sends, compares what comes back, and ends the connection as its
// kind says.
type clientEnd struct {
	strand.NopProtocol
	l       *ledger
	a       *account
	r       *rand.Rand // used by callbacks only, while the goroutine waits that it belongs to
	t       strand.Transport
	total   int64
	sent    int64
	got     int64
	full    bool
	resting bool // a timer will go on sending
	over    bool
}

func newClientEnd(l *ledger, a *account, r *rand.Rand) *clientEnd {
	return &clientEnd{l: l, a: a, r: r, total: 1 + r.Int64N(1<<(4+r.IntN(15)))}
}

func (c *clientEnd) ConnectionMade(t strand.Transport) {
	c.t = t
	c.note(func(s *side) { s.made = true })
	t.CallLater(time.Duration(c.r.Int64N(int64(c.l.think))), c.begin)
}

// begin says which connection this is.
func (c *clientEnd) begin() {
	header := binary.BigEndian.AppendUint64(nil, c.a.id)
	header = append(header, byte(c.a.kind))
	header = binary.BigEndian.AppendUint32(header, uint32(c.total))
	c.t.Write(header)
	c.send()
}

func (c *clientEnd) note(f func(s *side)) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	f(&c.a.client)
}

// send writes until it is time to rest, to end, or to wait for the peer.
func (c *clientEnd) send() {
	for c.sent < c.total && !c.full && !c.resting && !c.over {
		if c.a.kind.violent() && c.a.kind != serverAbort && c.sent > c.total/2 {
			c.endViolently()
			return
		}
		p := piece(c.sent, int(min(c.total-c.sent, 1+c.r.Int64N(16<<10))))
		n, err := c.t.Write(p)
		c.sent += int64(n)
		c.note(func(s *side) { s.accepted += int64(n) })
		if err != nil {
			return
		}
		if c.r.IntN(4) == 0 {
			c.resting = true
			c.t.CallLater(c.pause(), func() { c.resting = false; c.send() })
		}
	}
	if c.sent == c.total && c.a.kind == halfClose && !c.over {
		c.over = true
		c.t.WriteEOF()
	}
	c.finish()
}

// pause is a stall: mostly short.
func (c *clientEnd) pause() time.Duration {
	return time.Duration(c.r.Int64N(1 << (20 + c.r.IntN(13)))) // up to 1 ms … 4 s
}

func (c *clientEnd) endViolently() {
	c.over = true
	if c.a.kind == clientReset {
		setLingerZero(c.t)
	}
	c.t.Abort()
}

// finish closes when everything has come back.
func (c *clientEnd) finish() {
	switch {
	case c.got < c.total || c.over:
	case c.a.kind == echo:
		c.over = true
		c.t.Close()
	case c.a.kind.violent() && c.a.kind != serverAbort:
		c.endViolently() // it was too small to be ended in the middle
	}
}

func (c *clientEnd) PauseWriting() { c.full = true }

func (c *clientEnd) ResumeWriting() {
	c.full = false
	c.send()
}

func (c *clientEnd) DataReceived(data []byte) {
	good := matches(data, c.got)
	c.got += int64(len(data))
	c.note(func(s *side) {
		s.received += int64(len(data))
		if !good && s.wrong == "" {
			s.wrong = fmt.Sprintf("other bytes than were sent before %d", s.received)
		}
	})
	if c.r.IntN(20) == 0 { // a slow reader
		c.t.PauseReading()
		c.t.CallLater(c.pause(), c.t.ResumeReading)
	}
	c.finish()
}

func (c *clientEnd) ConnectionLost(err error) {
	c.note(func(s *side) { s.lost, s.err = s.lost+1, err })
	c.l.settle(c.a)
}

// serverEnd echoes.
type serverEnd struct {
	strand.NopProtocol
	l      *ledger
	a      *account // nil until the header is complete
	t      strand.Transport
	header []byte
	total  int64
	got    int64
}

func (e *serverEnd) ConnectionMade(t strand.Transport) { e.t = t }

func (e *serverEnd) note(f func(s *side)) {
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	f(&e.a.server)
}

func (e *serverEnd) DataReceived(data []byte) {
	if e.a == nil {
		n := min(len(data), headerSize-len(e.header))
		e.header = append(e.header, data[:n]...)
		data = data[n:]
		if len(e.header) < headerSize || !e.identify() {
			return
		}
	}
	if len(data) > 0 {
		e.echo(data)
	}
}

// identify finds the account that the header names.
func (e *serverEnd) identify() bool {
	e.total = int64(binary.BigEndian.Uint32(e.header[9:]))
	if e.a = e.l.find(binary.BigEndian.Uint64(e.header)); e.a == nil {
		e.t.Abort() // the client is gone, and was counted without us
		return false
	}
	e.note(func(s *side) { s.made = true })
	return true
}

func (e *serverEnd) echo(data []byte) {
	good := matches(data, e.got)
	e.got += int64(len(data))
	n, _ := e.t.Write(data)
	e.note(func(s *side) {
		s.received += int64(len(data))
		s.accepted += int64(n)
		if !good && s.wrong == "" {
			s.wrong = fmt.Sprintf("other bytes than were sent before %d", s.received)
		}
	})
	if e.a.kind == serverAbort && e.got > e.total/2 {
		e.t.Abort()
	}
}

func (e *serverEnd) PauseWriting()  { e.t.PauseReading() }
func (e *serverEnd) ResumeWriting() { e.t.ResumeReading() }

func (e *serverEnd) ConnectionLost(err error) {
	if e.a == nil {
		e.l.mu.Lock()
		defer e.l.mu.Unlock()
		e.l.strays++
		return
	}
	e.note(func(s *side) { s.lost, s.err = s.lost+1, err })
	e.l.settle(e.a)
}
