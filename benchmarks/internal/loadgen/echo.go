//go:build linux

package loadgen

import (
	"crypto/tls"
	"fmt"
)

// openGroup bounds how many connections are opened before the client looks at
// answers, so that no server's listen queue overflows.
const openGroup = 64

// openStreams opens n connections and sends one message over each, so that
// every connection is known to work before anything is measured.
func (l *loop) openStreams(n int) ([]*stream, error) {
	streams := make([]*stream, 0, n)
	for len(streams) < n {
		first := len(streams)
		for range min(openGroup, n-first) {
			s, err := l.openStream(len(streams))
			if err != nil {
				return nil, fmt.Errorf("connection %d: %w", len(streams), err)
			}
			streams = append(streams, s)
			if err := s.begin(1, l.tick()); err != nil {
				return nil, err
			}
		}
		want := l.done + int64(len(streams)-first)
		if err := l.run(nil, func() bool { return l.done >= want }); err != nil {
			return nil, err
		}
	}
	return streams, nil
}

func (l *loop) echo() (Result, error) {
	streams, err := l.openStreams(l.cfg.Conns)
	if err != nil {
		return Result{}, err
	}
	if l.cfg.Rate > 0 {
		return l.paced(streams)
	}
	for _, s := range streams {
		s.endless = true
		if err := s.begin(l.cfg.Depth, l.tick()); err != nil {
			return Result{}, err
		}
	}
	result, err := l.measureEndless(nil)
	if w, ok := streams[0].w.(*tlsWire); ok {
		result.Cipher = tls.CipherSuiteName(w.conn.ConnectionState().CipherSuite)
	}
	return result, err
}
