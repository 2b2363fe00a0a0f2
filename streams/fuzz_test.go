package streams_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/gostrand/strand/streams"
)

// model is what a Reader is to do, written down as simply as possible.
type model struct {
	limit  int
	buf    []byte
	eof    bool
	paused bool
}

func (m *model) feed(p []byte) {
	m.buf = append(m.buf, p...)
	m.paused = m.paused || len(m.buf) > 2*m.limit
}

// take follows SR-14.
func (m *model) take(n int) []byte {
	p := bytes.Clone(m.buf[:n])
	m.buf = m.buf[n:]
	m.paused = m.paused && len(m.buf) > m.limit
	return p
}

// wait is a read that has to wait, with a context that has ended.
func (m *model) wait() error {
	m.paused = false
	return context.Canceled
}

// match tries every end, the first first, and every separator, the shortest
// first (SR-06).
func (m *model) match(seps [][]byte) (start, end int) {
	for end := 1; end <= len(m.buf); end++ {
		start := -1
		for _, sep := range seps {
			if bytes.HasSuffix(m.buf[:end], sep) {
				start = max(start, end-len(sep))
			}
		}
		if start >= 0 {
			return start, end
		}
	}
	return 0, 0
}

func (m *model) readUntil(seps [][]byte) ([]byte, error) {
	longest := 0
	for _, sep := range seps {
		longest = max(longest, len(sep))
	}
	start, end := m.match(seps)
	free := len(m.buf) + 1 - longest // no separator begins before
	switch {
	case end > 0 && start > m.limit:
		return nil, &streams.LimitOverrunError{Consumed: start, Found: true}
	case end > 0:
		return m.take(end), nil
	case free > m.limit:
		return nil, &streams.LimitOverrunError{Consumed: free}
	case m.eof:
		return nil, &streams.IncompleteReadError{Partial: m.take(len(m.buf))}
	}
	return nil, m.wait()
}

func (m *model) readLine() ([]byte, error) {
	line, err := m.readUntil([][]byte{{'\n'}})
	var overrun *streams.LimitOverrunError
	var incomplete *streams.IncompleteReadError
	switch {
	case errors.As(err, &overrun) && overrun.Found:
		m.take(overrun.Consumed + 1)
	case errors.As(err, &overrun):
		m.take(len(m.buf))
	case errors.As(err, &incomplete) && len(incomplete.Partial) == 0:
		return nil, io.EOF
	case errors.As(err, &incomplete):
		return incomplete.Partial, nil
	}
	return line, err
}

func (m *model) readExactly(n int) ([]byte, error) {
	switch {
	case len(m.buf) >= n:
		return m.take(n), nil
	case m.eof:
		return nil, &streams.IncompleteReadError{Partial: m.take(len(m.buf)), Expected: n}
	}
	return nil, m.wait()
}

func (m *model) readSome(n int) ([]byte, error) {
	switch {
	case len(m.buf) > 0:
		return m.take(min(n, len(m.buf))), nil
	case m.eof:
		return nil, io.EOF
	}
	return nil, m.wait()
}

// FuzzReader runs one script on a Reader and on the model. In the script a byte
// says what to do and how much of it: the low three bits are the call, the rest
// its size. Every outcome, what is left and whether the transport is paused
// have to be the same. SR-04, SR-05, SR-06, SR-07, SR-14.
func FuzzReader(f *testing.F) {
	f.Add(uint8(0), []byte("\n"), []byte("ab\n"), []byte("line1\nline2\nrest"), []byte{0x21, 0x02, 0x19, 0x02, 0xf9, 0x02, 0x02, 0x07, 0x02})
	f.Add(uint8(7), []byte("AAA"), []byte("A"), []byte("some dataAAA and AA"), []byte{0x58, 0x03, 0x08, 0x03, 0x04, 0x2d, 0xff, 0x07, 0x03})
	f.Add(uint8(3), []byte("DEF"), []byte("BCDE"), []byte("ABCDEFGABCDEFG"), []byte{0x20, 0x03, 0x20, 0x03, 0x16, 0x38, 0x03, 0x07, 0x03})
	f.Fuzz(func(t *testing.T, limit uint8, sep1, sep2, data, script []byte) {
		if len(sep1) == 0 || len(sep2) == 0 {
			t.Skip("separators are not empty")
		}
		seps := [][]byte{sep1, sep2}
		transport := &fake{}
		p := streams.NewProtocol(int(limit) + 1)
		p.ConnectionMade(transport)
		r := p.Reader()
		m := &model{limit: r.Limit()}
		for i, op := range script {
			n := int(op >> 3)
			var got, want outcome
			switch op & 7 {
			case 0, 1:
				if chunk := data[:min(n, len(data))]; len(chunk) > 0 && !m.eof {
					data = data[len(chunk):]
					m.feed(chunk)
					p.DataReceived(chunk)
				}
			case 2:
				want.data, want.err = m.readLine()
				got.data, got.err = r.ReadLine(cancelled)
			case 3:
				want.data, want.err = m.readUntil(seps)
				got.data, got.err = r.ReadUntil(cancelled, seps...)
			case 4:
				want.data, want.err = m.readUntil(seps[:1])
				got.data, got.err = r.ReadUntil(cancelled, sep1)
			case 5:
				want.data, want.err = m.readExactly(n + 1)
				got.data, got.err = r.ReadExactly(cancelled, n+1)
			case 6:
				want.data, want.err = m.readSome(n + 1)
				got.data, got.err = r.ReadSome(cancelled, n+1)
			case 7:
				m.eof = true
				p.ConnectionLost(nil)
			}
			if !bytes.Equal(got.data, want.data) || !sameError(got.err, want.err) {
				t.Fatalf("step %d (%#x): got %q, %v, want %q, %v", i, op, got.data, got.err, want.data, want.err)
			}
			if r.Buffered() != len(m.buf) || transport.paused != m.paused {
				t.Fatalf("step %d (%#x): %d bytes are left, paused: %v; want %q, paused: %v", i, op, r.Buffered(), transport.paused, m.buf, m.paused)
			}
		}
	})
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	var ai, bi *streams.IncompleteReadError
	if errors.As(a, &ai) && errors.As(b, &bi) {
		return ai.Expected == bi.Expected && bytes.Equal(ai.Partial, bi.Partial)
	}
	var ao, bo *streams.LimitOverrunError
	if errors.As(a, &ao) && errors.As(b, &bo) {
		return *ao == *bo
	}
	return a == b
}

// FuzzFeeding sends the same bytes in chunks and as one, to a call that waits
// for them: how the network cuts a stream must not show. SR-04, SR-06.
func FuzzFeeding(f *testing.F) {
	f.Add([]byte("\r\n"), []byte("\n"), []byte("a\r\nb\nc\r"), []byte{1, 1, 2})
	f.Add([]byte("aaa"), []byte("ab"), []byte("QWEaaXYaaaab"), []byte{5, 4})
	f.Fuzz(func(t *testing.T, sep1, sep2, data, cuts []byte) {
		if len(sep1) == 0 || len(sep2) == 0 {
			t.Skip("separators are not empty")
		}
		read := func(cuts []byte) (chunks [][]byte) {
			p := streams.NewProtocol(len(data) + 1)
			p.ConnectionMade(&fake{})
			fed := make(chan struct{})
			go func() {
				defer close(fed)
				rest := data
				for _, n := range cuts {
					if n := min(int(n), len(rest)); n > 0 {
						p.DataReceived(rest[:n])
						rest = rest[n:]
					}
				}
				if len(rest) > 0 {
					p.DataReceived(rest)
				}
				p.ConnectionLost(nil)
			}()
			for {
				chunk, err := p.Reader().ReadUntil(context.Background(), sep1, sep2)
				var incomplete *streams.IncompleteReadError
				if errors.As(err, &incomplete) {
					<-fed
					return append(chunks, incomplete.Partial)
				}
				if err != nil {
					t.Fatal(err)
				}
				chunks = append(chunks, chunk)
			}
		}
		whole, cut := read(nil), read(cuts)
		if !bytes.Equal(bytes.Join(whole, nil), data) {
			t.Fatalf("%q became %q", data, whole)
		}
		if len(whole) != len(cut) {
			t.Fatalf("%q as a whole, %q in chunks of %v", whole, cut, cuts)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], cut[i]) {
				t.Fatalf("%q as a whole, %q in chunks of %v", whole, cut, cuts)
			}
		}
	})
}
