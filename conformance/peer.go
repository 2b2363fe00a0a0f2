package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cutLimit is how far a send is cut into small pieces: to cut megabytes into
// single bytes would take minutes and show nothing more.
const cutLimit = 2048

// A cutter splits what a peer sends at once.
type cutter func(data []byte) [][]byte

// newCutter understands "", "one" and "random:SEED".
func newCutter(mode string) (cutter, error) {
	seed, random := strings.CutPrefix(mode, "random:")
	switch {
	case mode == "":
		return func(data []byte) [][]byte { return [][]byte{data} }, nil
	case mode == "one":
		return cutInto(func() int { return 1 }), nil
	case random:
		n, err := strconv.ParseUint(seed, 10, 64)
		rng := rand.New(rand.NewPCG(n, n))
		return cutInto(func() int { return 1 + rng.IntN(700) }), err
	}
	return nil, fmt.Errorf("unknown way to cut: %q", mode)
}

func cutInto(size func() int) cutter {
	return func(data []byte) [][]byte {
		var pieces [][]byte
		limit := min(len(data), cutLimit)
		for pos := 0; pos < limit; {
			n := min(size(), len(data)-pos)
			pieces = append(pieces, data[pos:pos+n])
			pos += n
			if pos >= limit && pos < len(data) {
				pieces = append(pieces, data[pos:])
			}
		}
		return pieces
	}
}

// A peer walks through the steps of one script on a goroutine of its own. Its
// observations go to the section peerK.
type peer struct {
	run     *Run
	name    string
	steps   []string
	section *section
	source  source
	cut     cutter
	end     end // what send and recv use
	raw     end // below TLS
}

func newPeer(run *Run, index int, steps []string) *peer {
	name := fmt.Sprintf("peer%d", index)
	cut, err := newCutter(run.cut)
	if err != nil {
		run.board.fail(err)
	}
	return &peer{run: run, name: name, steps: steps, section: run.trace.section(name), cut: cut}
}

// play is the goroutine.
func (p *peer) play() {
	defer p.run.board.post(p.name+".end", 1)
	if err := p.walk(); err != nil {
		p.run.board.fail(fmt.Errorf("%s: %w", p.name, err))
	}
}

func (p *peer) walk() error {
	if err := p.start(); err != nil {
		return err
	}
	for _, step := range p.steps {
		words := strings.Fields(step)
		if err := p.step(words[0], append(words[1:], "", "")); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

// start connects or accepts, unless the script does so itself.
func (p *peer) start() error {
	own := slices.ContainsFunc(p.steps, func(s string) bool {
		return strings.HasPrefix(s, "connect") || strings.HasPrefix(s, "accept")
	})
	switch {
	case own || p.end != nil:
		return nil
	case p.run.scenario.Role == "server":
		return p.connect("")
	case p.run.listener != nil && !p.run.scenario.Options.Refuse:
		return p.accept()
	}
	return nil
}

// step runs one step; args has at least two elements, empty if not given.
func (p *peer) step(verb string, args []string) error {
	switch verb {
	case "accept":
		return p.accept()
	case "connect":
		return p.connect(args[0])
	case "tls":
		return p.handshake(args[0])
	case "send":
		return p.send(args[0])
	case "push":
		return p.push(p.end, args[0])
	case "raw":
		return p.push(p.raw, args[0])
	case "flood":
		return p.flood()
	case "recv":
		return p.recv(args[0])
	case "recv_all":
		return p.recvAll(args[0] == "uncounted")
	case "drain":
		return p.drain(args[0])
	case "end":
		return p.rawEnd()
	case "silent":
		return p.silent(args[0])
	}
	return p.control(verb, args[0])
}

// control runs the steps that move no data.
func (p *peer) control(verb, arg string) error {
	switch verb {
	case "close_notify":
		_ = p.end.(*tlsEnd).conn.CloseWrite() // the transport may have gone already
		return nil
	case "shutdown":
		return p.raw.(*socketEnd).shutdown()
	case "close":
		return p.raw.close()
	case "reset":
		return p.raw.(*socketEnd).reset()
	case "wait":
		return p.run.board.wait(arg)
	case "mark":
		p.run.board.post(arg, 1)
		return nil
	case "linger":
		return linger(arg)
	}
	return errors.New("unknown step")
}

// linger gives a wrong implementation time to show itself.
func linger(milliseconds string) error {
	ms, err := strconv.Atoi(milliseconds)
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return err
}

// adopt takes over a connected end.
func (p *peer) adopt(e end) error {
	p.end, p.raw = e, e
	if s, ok := e.(*socketEnd); ok {
		p.run.closeLater(s.conn)
		return s.conn.SetDeadline(time.Now().Add(p.run.timeout))
	}
	return nil
}

func (p *peer) accept() error {
	conn, err := p.run.listener.Accept()
	if err != nil {
		return err
	}
	return p.adopt(&socketEnd{conn})
}

func (p *peer) connect(expect string) error {
	d := net.Dialer{KeepAlive: -1, Control: p.run.preparePeer}
	address := p.run.serverAddress
	conn, err := d.Dial(address.Network(), address.String())
	if err != nil {
		p.section.add("connect %s", errorName(err))
		return nil
	}
	if expect != "" {
		p.section.add("connect ok")
	}
	return p.adopt(&socketEnd{conn})
}

// handshake upgrades the end to TLS; "fails" and "any" are what else may be
// expected.
func (p *peer) handshake(expect string) error {
	s := p.run.scenario
	config, err := s.tlsConfig(&s.PeerTLS, !s.serverSide())
	if err != nil {
		return err
	}
	upgraded, err := newTLSEnd(p.raw.(*socketEnd), config, !s.serverSide())
	switch {
	case expect == "any":
		return nil
	case err != nil && expect == "fails":
		p.section.add("tls failed")
	case err != nil:
		return fmt.Errorf("handshake: %w", err)
	case expect == "fails":
		return errors.New("the handshake did not fail")
	default:
		p.section.add("tls ok")
	}
	p.end = upgraded
	return nil
}

func (p *peer) send(token string) error {
	data, err := p.source.take(token)
	if err != nil {
		return err
	}
	pieces := [][]byte{data} // a datagram is never cut
	if _, whole := p.end.(*datagramEnd); !whole {
		pieces = p.cut(data)
	}
	for _, piece := range pieces {
		if err := p.end.send(piece); err != nil {
			p.section.add("send %s -> %s", token, gone(err))
			return nil
		}
	}
	return nil
}

// push sends to somebody who may be gone: in one piece, errors not shown.
func (p *peer) push(e end, token string) error {
	data, err := p.source.take(token)
	if err == nil {
		_ = e.send(data)
	}
	return err
}

// flood sends until the transport's end is gone and shows only that it went.
func (p *peer) flood() error {
	zeros := make([]byte, receiveChunk)
	for {
		if err := p.end.send(zeros); err != nil {
			p.section.add("flood -> %s", gone(err))
			return nil
		}
	}
}

// gone names the error of a send to somebody who is gone: which of the two
// errors it is is a matter of timing.
func gone(err error) string {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return "peer gone"
	}
	return errorName(err)
}

func (p *peer) recv(count string) error {
	if d, ok := p.end.(*datagramEnd); ok {
		return d.recvShown(p, count)
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var got []byte
	for len(got) < n {
		data, err := p.end.recv(min(receiveChunk, n-len(got)))
		if err != nil {
			p.section.add("recv %s then %v", describe(got), err)
			return nil
		}
		got = append(got, data...)
	}
	p.section.add("recv %s", describe(got))
	return nil
}

// recvAll receives to the end; uncounted hides how much of it came through.
func (p *peer) recvAll(uncounted bool) error {
	var got bytes.Buffer
	for {
		data, err := p.end.recv(receiveChunk)
		got.Write(data)
		if err == nil {
			continue
		}
		how, what := err.Error(), "some"
		if p.run.scenario.LooseErrors && (how == "eof" || how == "ECONNRESET") {
			how = "the end"
		}
		if !uncounted {
			what = describe(got.Bytes())
		}
		p.section.add("recv_all %s then %s", what, how)
		return nil
	}
}

// rawEnd waits for the end below TLS, discarding records.
func (p *peer) rawEnd() error {
	for {
		if _, err := p.raw.recv(receiveChunk); err != nil {
			p.section.add("end %v", err)
			return nil
		}
	}
}

// silent shows that nothing arrives; a right implementation cannot fail it.
func (p *peer) silent(milliseconds string) error {
	ms, err := strconv.Atoi(milliseconds)
	if err != nil {
		return err
	}
	raw := p.raw.(interface{ setReadTimeout(time.Duration) error })
	if err := raw.setReadTimeout(time.Duration(ms) * time.Millisecond); err != nil {
		return err
	}
	_, err = p.raw.recv(1)
	p.section.add("silent %t", err != nil && err.Error() == "timeout")
	return raw.setReadTimeout(p.run.timeout)
}
