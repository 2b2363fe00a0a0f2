package strand

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkDispatcherTurn(b *testing.B) {
	d := &dispatcher{cfg: &config{}}
	b.ReportAllocs()
	for b.Loop() {
		d.enter()
		d.leave()
	}
}

func BenchmarkDispatcherTurnContended(b *testing.B) {
	d := &dispatcher{cfg: &config{}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.enter()
			d.leave()
		}
	})
}

// A write behind a backlog is a copy: here the writer is pretended, so that
// nothing else is measured.
func BenchmarkWriteBacklog(b *testing.B) {
	ours, peer := net.Pipe()
	defer peer.Close()
	defer ours.Close()
	cfg, err := new(TransportOptions).resolve()
	require.NoError(b, err)
	s := newStream(ours, cfg)
	s.writing = true
	s.flow.low, s.flow.high = 1<<30, 1<<30
	buf := make([]byte, 64)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		s.Write(buf)
		if n%1000 == 999 {
			s.mu.Lock()
			s.drainedLocked(s.out.Len())
			s.mu.Unlock()
		}
	}
}
