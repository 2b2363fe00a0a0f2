package streams_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/streams"
)

const lines = "line1\nline2\nline3\n"

// SR-01; test_invalid_limit.
func TestLimitMustNotBeNegative(t *testing.T) {
	ours, peer := net.Pipe()
	defer ours.Close()
	defer peer.Close()
	nop := func(*streams.Reader, *streams.Writer) {}
	_, _, err := streams.Attach(context.Background(), ours, &streams.AttachOptions{Limit: -1})
	require.ErrorContains(t, err, "limit")
	require.NoError(t, ours.SetDeadline(time.Time{}), "it has stayed open")
	_, _, err = streams.OpenConnection(context.Background(), "tcp", "127.0.0.1:1", &streams.Options{Limit: -1})
	require.ErrorContains(t, err, "limit")
	_, err = streams.StartServer(context.Background(), "tcp", "127.0.0.1:0", nop, &streams.ServerOptions{Limit: -1})
	require.ErrorContains(t, err, "limit")
	require.Panics(t, func() { streams.NewProtocol(-1) })
	require.Equal(t, 65536, streams.NewProtocol(0).Reader().Limit())
	require.Equal(t, 3, streams.NewProtocol(3).Reader().Limit())
}

// SR-02; test_read_zero, test_read_line_breaks, test_feed_nonempty_data,
// test_read_limit.
func TestReadSome(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 3)
		s.feed("line1", "line2")
		wantData(t, "")(s.ReadSome(cancelled, 0))
		require.Equal(t, 10, s.Buffered(), "nothing is consumed")
		wantData(t, "line1")(s.ReadSome(cancelled, 5))
		wantData(t, "line2")(s.ReadSome(cancelled, 500))
		s.feed("chunk")
		wantData(t, "chunk")(s.ReadSome(cancelled, 5)) // the limit does not matter
		s.wantRest("")
	})
}

// SR-02; test_read_eof.
func TestReadSomeAtEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("ab")
		s.feedEOF()
		wantData(t, "a")(s.ReadSome(cancelled, 1))
		wantData(t, "b")(s.ReadSome(cancelled, 1))
		for range 2 {
			got, err := s.ReadSome(cancelled, 1)
			require.Empty(t, got)
			require.Equal(t, io.EOF, err)
		}
		wantData(t, "")(s.ReadSome(cancelled, 0))
	})
}

// SR-02; test_read.
func TestReadsWait(t *testing.T) {
	reads := map[string]func(s *stream) ([]byte, error){
		"ReadSome":    func(s *stream) ([]byte, error) { return s.ReadSome(context.Background(), 30) },
		"Read":        func(s *stream) ([]byte, error) { return readInto(s, 30) },
		"ReadLine":    func(s *stream) ([]byte, error) { return s.ReadLine(context.Background()) },
		"ReadExactly": func(s *stream) ([]byte, error) { return s.ReadExactly(context.Background(), 6) },
		"ReadUntil":   func(s *stream) ([]byte, error) { return s.ReadUntil(context.Background(), []byte("\n")) },
		"ReadAll":     func(s *stream) ([]byte, error) { return s.ReadAll(context.Background()) },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, pipe, 0)
				got := async(func() ([]byte, error) { return read(s) })
				synctest.Wait()
				require.Empty(t, got, "there is nothing to read")
				s.feed("line1\n")
				if name == "ReadAll" {
					synctest.Wait()
					require.Empty(t, got, "it is not all yet")
					s.feedEOF()
				}
				o := <-got
				wantData(t, "line1\n")(o.data, o.err)
			})
		})
	}
}

func readInto(r io.Reader, n int) ([]byte, error) {
	p := make([]byte, n)
	n, err := r.Read(p)
	return p[:n], err
}

// SR-02; test_read_until_eof.
func TestReadAll(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 3)
		got := async(func() ([]byte, error) { return s.ReadSome(within(t), -1) })
		s.feed("chunk1\n", "chunk2")
		s.feedEOF()
		o := await(t, "ReadAll", got)
		wantData(t, "chunk1\nchunk2")(o.data, o.err)
		wantData(t, "")(s.ReadAll(cancelled))
	})
}

// SR-02: a megabyte comes through whatever the limit and the sizes of reads.
func TestReadAllLarge(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 1000)
		want := pattern(1 << 20)
		go func() {
			s.peer.Write(want)
			s.peer.Close()
		}()
		front, err := s.ReadExactly(within(t), 12_345)
		require.NoError(t, err)
		rest, err := s.ReadAll(within(t))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, append(front, rest...)))
	})
}

// pattern returns n bytes of which no two near each other are alike.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8*13 + i>>16*29)
	}
	return p
}

// SR-03; test_readexactly, test_readexactly_limit, test_readexactly_zero_or_less.
func TestReadExactly(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 3)
		s.feed(lines)
		wantData(t, "")(s.ReadExactly(cancelled, 0))
		_, err := s.ReadExactly(cancelled, -1)
		require.Error(t, err)
		require.Equal(t, len(lines), s.Buffered())

		got := async(func() ([]byte, error) { return s.ReadExactly(within(t), 2*len(lines)) })
		s.feed(lines, lines)
		o := await(t, "ReadExactly", got)
		wantData(t, lines+lines)(o.data, o.err)
		s.wantRest(lines)
	})
}

// SR-03; test_readexactly_eof, test_IncompleteReadError_pickleable.
func TestReadExactlyAtEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed(lines)
		s.feedEOF()
		_, err := s.ReadExactly(cancelled, 36)
		var incomplete *streams.IncompleteReadError
		require.ErrorAs(t, err, &incomplete)
		require.Equal(t, lines, string(incomplete.Partial))
		require.Equal(t, 36, incomplete.Expected)
		require.ErrorContains(t, err, "18 bytes read on a total of 36 expected bytes")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, err, io.EOF)
		s.wantRest("")

		_, err = s.ReadExactly(cancelled, 1)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorIs(t, err, io.EOF, "the stream ended where it may")
	})
}

// SR-04, SR-06; test_readuntil_separator.
func TestReadUntilChecksSeparators(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("data")
	for _, seps := range [][][]byte{{}, {nil}, {{}}, {{'t'}, {}}} {
		_, err := s.ReadUntil(cancelled, seps...)
		require.ErrorContains(t, err, "separator", "%q", seps)
	}
	s.wantRest("data")
}

// SR-04; test_readuntil_multi_chunks, test_readuntil_multi_chunks_1,
// test_readuntil_bytearray.
func TestReadUntil(t *testing.T) {
	tests := []struct {
		sep    string
		chunks []string
		want   string
		rest   string
	}{
		{"AAA", []string{"lineAAA"}, "lineAAA", ""},
		{"AAA", []string{"lineAAAxxx"}, "lineAAA", "xxx"},
		{"aaa", []string{"QWEaa", "XYaa", "a"}, "QWEaaXYaaa", ""},
		{"aaa", []string{"QWEaa", "XYa", "aa"}, "QWEaaXYaaa", ""},
		{"aaa", []string{"aaa"}, "aaa", ""},
		{"aaa", []string{"Xaaa"}, "Xaaa", ""},
		{"aaa", []string{"XXX", "a", "a", "a"}, "XXXaaa", ""},
		{"\r\n", []string{"some data\r\n"}, "some data\r\n", ""},
		{"\r\n", []string{"some data\r", "\nmore"}, "some data\r\n", "more"},
	}
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		for _, test := range tests {
			got := async(func() ([]byte, error) { return s.ReadUntil(within(t), []byte(test.sep)) })
			s.feed(test.chunks...)
			o := await(t, "ReadUntil", got)
			wantData(t, test.want)(o.data, o.err)
			s.wantRest(test.rest)

			s.feed(test.chunks...) // and all of it there before
			wantData(t, test.want)(s.ReadUntil(cancelled, []byte(test.sep)))
			s.wantRest(test.rest)
		}
	})
}

// SR-04: what is in the buffer counts, although the stream has ended;
// test_readuntil_eof.
func TestReadUntilAtEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("lineAAAsome dataAA")
		s.feedEOF()
		wantData(t, "lineAAA")(s.ReadUntil(cancelled, []byte("AAA")))
		_, err := s.ReadUntil(cancelled, []byte("AAA"))
		var incomplete *streams.IncompleteReadError
		require.ErrorAs(t, err, &incomplete)
		require.Equal(t, "some dataAA", string(incomplete.Partial))
		require.Zero(t, incomplete.Expected)
		require.ErrorContains(t, err, "11 bytes read on a total of undefined expected bytes")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		s.wantRest("")
		require.True(t, s.AtEOF())
	})
}

func wantOverrun(t testing.TB, err error, consumed int, found bool) {
	t.Helper()
	var overrun *streams.LimitOverrunError
	require.ErrorAs(t, err, &overrun)
	require.Equal(t, streams.LimitOverrunError{Consumed: consumed, Found: found}, *overrun)
	if found {
		require.ErrorContains(t, err, "is found")
	} else {
		require.ErrorContains(t, err, "not found")
	}
}

// SR-05; test_readuntil_limit_found_sep, test_LimitOverrunError_pickleable.
func TestReadUntilLimit(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 3)
		sep := []byte("AAA")
		s.feed("some dataAA")
		_, err := s.ReadUntil(cancelled, sep)
		wantOverrun(t, err, 9, false)
		require.Equal(t, 11, s.Buffered())
		s.feed("A")
		_, err = s.ReadUntil(cancelled, sep)
		wantOverrun(t, err, 9, true)
		s.wantRest("some dataAAA")

		s.feed("123AAA")
		wantData(t, "123AAA")(s.ReadUntil(cancelled, sep)) // the separator does not count
		s.feed("1234AAA")
		_, err = s.ReadUntil(cancelled, sep)
		wantOverrun(t, err, 4, true)
		s.wantRest("1234AAA")
	})
}

// SR-05: the limit is looked at before the end of the stream.
func TestReadUntilLimitAtEOF(t *testing.T) {
	s := open(t, tcp, 3)
	s.feed("12345")
	s.feedEOF()
	for range 2 {
		_, err := s.ReadUntil(cancelled, []byte("AA"))
		wantOverrun(t, err, 4, false)
	}
	wantData(t, "1")(s.ReadSome(cancelled, 1))
	_, err := s.ReadUntil(cancelled, []byte("AA"))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "three bytes, and an A that may have been one")
}

// SR-06; test_readuntil_multi_separator.
func TestReadUntilSeveral(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("line 1\nline 2\r")
		for _, want := range []string{"line 1\n", "line 2\r"} {
			wantData(t, want)(s.ReadUntil(cancelled, []byte("\r"), []byte("\n")))
		}
		s.feed("ABCDEFG")
		wantData(t, "ABCDE")(s.ReadUntil(cancelled, []byte("DEF"), []byte("BCDE")))
		s.wantRest("FG")
	})
}

// SR-06: of those that end together the shortest is the match;
// test_readuntil_multi_separator_limit.
func TestReadUntilSeveralLimit(t *testing.T) {
	s := open(t, tcp, 3)
	s.feed("some dataA")
	_, err := s.ReadUntil(cancelled, []byte("A"), []byte("ome dataA"))
	wantOverrun(t, err, 9, true)
	_, err = s.ReadUntil(cancelled, []byte("ome dataA"), []byte("A"))
	wantOverrun(t, err, 9, true)
	s.wantRest("some dataA")
}

// SR-06; test_readuntil_multi_separator_negative_offset.
func TestReadUntilShortAndLong(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed("data")
	got := async(func() ([]byte, error) { return s.ReadUntil(within(t), []byte("A"), []byte("long sep")) })
	s.feed("Z", "Aaaa")
	o := await(t, "ReadUntil", got)
	wantData(t, "dataZA")(o.data, o.err)
	s.wantRest("aaa")
}

// SR-07; test_readline, test_readline_nolimit_nowait,
// test_readline_read_byte_count.
func TestReadLine(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("chunk1 ")
		got := async(func() ([]byte, error) { return s.ReadLine(within(t)) })
		s.feed("chunk2 ", "chunk3 ", "\n chunk4")
		o := await(t, "ReadLine", got)
		wantData(t, "chunk1 chunk2 chunk3 \n")(o.data, o.err)
		s.wantRest(" chunk4")

		s.feed(lines[:6], lines[6:])
		wantData(t, "line1\n")(s.ReadLine(cancelled))
		wantData(t, "line2\nl")(s.ReadSome(cancelled, 7))
		s.wantRest("ine3\n")
	})
}

// SR-07; test_readline_eof, test_readline_empty_eof.
func TestReadLineAtEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("some data")
		s.feedEOF()
		wantData(t, "some data")(s.ReadLine(cancelled))
		got, err := s.ReadLine(cancelled)
		require.Nil(t, got)
		require.Equal(t, io.EOF, err)
	})
}

// SR-07; test_readline_limit_with_existing_data, test_readline_limit.
func TestReadLineLimit(t *testing.T) {
	tests := []struct {
		name   string
		limit  int
		chunks []string
		found  bool
		rest   string
	}{
		{"a line in the buffer", 3, []string{"li", "ne1\nline2\n"}, true, "line2\n"},
		{"a line without an end", 3, []string{"li", "ne1", "li"}, false, ""},
		{"one long line", 7, []string{"chunk1", "chunk2", "chunk3\n"}, true, ""},
		{"one long line and another", 7, []string{"chunk1", "chunk2\n", "chunk3\n"}, true, "chunk3\n"},
		{"one byte more, with its end", 7, []string{"12345678\n"}, true, ""},
		{"one byte more", 7, []string{"12345678"}, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k kind) {
				s := open(t, k, test.limit)
				s.feed(test.chunks...)
				_, err := s.ReadLine(cancelled)
				var overrun *streams.LimitOverrunError
				require.ErrorAs(t, err, &overrun)
				require.Equal(t, test.found, overrun.Found)
				s.wantRest(test.rest)
			})
		})
	}
	s := open(t, tcp, 7)
	s.feed("1234567\n")
	wantData(t, "1234567\n")(s.ReadLine(cancelled))
}

// SR-07: a call that waits for the end of a line finds out that it is too long.
func TestReadLineLimitWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 7)
		got := async(func() ([]byte, error) { return s.ReadLine(context.Background()) })
		s.feed("chunk1")
		synctest.Wait()
		require.Empty(t, got)
		s.feed("chunk2")
		wantOverrun(t, (<-got).err, 12, false)
		s.wantRest("")
	})
}

// SR-08.
func TestLines(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 10)
		s.feed("a\n\n", strings.Repeat("b", 20)+"\n", "c\nd")
		s.feedEOF()
		loop := func() (got []string, last error) {
			for line, err := range s.Lines(cancelled) {
				require.NoError(t, last, "an error is the last")
				got, last = append(got, string(line)), err
			}
			return got, last
		}
		got, err := loop()
		require.Equal(t, []string{"a\n", "\n", ""}, got)
		wantOverrun(t, err, 20, true)
		got, err = loop()
		require.Equal(t, []string{"c\n", "d"}, got)
		require.NoError(t, err)
	})
}

// SR-08: leaving the loop leaves the rest.
func TestLinesBreak(t *testing.T) {
	s := open(t, tcp, 0)
	s.feed(lines)
	for line, err := range s.Lines(cancelled) {
		wantData(t, "line1\n")(line, err)
		break
	}
	s.wantRest("line2\nline3\n")
}

// SR-09.
func TestOnlyOneReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		got := async(func() ([]byte, error) { return s.ReadExactly(context.Background(), 6) })
		synctest.Wait()
		second := map[string]func() error{
			"Read":        func() error { _, err := s.Reader.Read(make([]byte, 1)); return err },
			"ReadSome":    func() error { _, err := s.ReadSome(context.Background(), 1); return err },
			"ReadAll":     func() error { _, err := s.ReadAll(context.Background()); return err },
			"ReadExactly": func() error { _, err := s.ReadExactly(context.Background(), 1); return err },
			"ReadUntil":   func() error { _, err := s.ReadUntil(context.Background(), []byte("x")); return err },
			"ReadLine":    func() error { _, err := s.ReadLine(context.Background()); return err },
		}
		for name, read := range second {
			err := read()
			require.ErrorIs(t, err, streams.ErrConcurrentRead)
			require.ErrorContains(t, err, name+":")
		}
		s.feed("abc")
		wantData(t, "ab")(s.ReadSome(context.Background(), 2)) // it does not have to wait
		s.feed("defgh")
		o := <-got
		wantData(t, "cdefgh")(o.data, o.err)
	})
}

// SR-09: what another call takes while this one waits, it does not find again.
func TestReadUntilAndAnotherRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		got := async(func() ([]byte, error) { return s.ReadUntil(context.Background(), []byte("\n")) })
		s.feed("0123456789")
		synctest.Wait()
		wantData(t, "01234567")(s.ReadExactly(context.Background(), 8))
		s.feed("\nabc\n")
		o := <-got
		wantData(t, "89\n")(o.data, o.err)
	})
}

// SR-10; test_at_eof, test_feed_empty_data.
func TestAtEOF(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		require.False(t, s.AtEOF())
		s.feed("some data\n")
		require.False(t, s.AtEOF())
		wantData(t, "some data\n")(s.ReadLine(cancelled))
		require.False(t, s.AtEOF())
		s.feed("some data\n")
		s.feedEOF()
		require.False(t, s.AtEOF())
		wantData(t, "some data\n")(s.ReadLine(cancelled))
		require.True(t, s.AtEOF())
		require.NoError(t, s.Err())
	})
}

// SR-10: the end of the stream wakes the read that waits; test_read_eof.
func TestEOFWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 0)
		got := async(func() ([]byte, error) { return s.ReadSome(context.Background(), 1024) })
		synctest.Wait()
		s.feedEOF()
		require.Equal(t, outcome{nil, io.EOF}, <-got)
	})
}

// SR-11 with SPEC.md's difference: what came before the error is read first,
// then every read returns it; test_read_exception, test_readline_exception,
// test_readexactly_exception, test_exception.
func TestDataBeforeAnErrorIsReadFirst(t *testing.T) {
	s := open(t, tcp, 0)
	require.NoError(t, s.Err())
	s.feed("line1\nline2\nrest")
	s.reset()
	wantReset := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, s.Err(), err)
	}
	wantReset(s.Err())
	wantData(t, "line1\n")(s.ReadLine(cancelled))
	wantData(t, "line2\n")(s.ReadUntil(cancelled, []byte("2\n")))
	_, err := s.ReadLine(cancelled)
	wantReset(err)
	_, err = s.ReadUntil(cancelled, []byte("x"))
	wantReset(err)
	_, err = s.ReadExactly(cancelled, 5)
	wantReset(err)
	wantData(t, "re")(s.ReadExactly(cancelled, 2))
	rest, err := s.ReadAll(cancelled)
	require.Equal(t, "st", string(rest))
	wantReset(err)
	_, err = s.ReadSome(cancelled, 1)
	wantReset(err)
	_, err = s.Reader.Read(make([]byte, 1))
	wantReset(err)
	require.False(t, s.AtEOF(), "that is not an end of file")
}

// SR-11; test_exception_waiter.
func TestErrorWakes(t *testing.T) {
	s := open(t, tcp, 0)
	got := async(func() ([]byte, error) { return s.ReadLine(within(t)) })
	s.reset()
	require.ErrorIs(t, await(t, "ReadLine", got).err, syscall.ECONNRESET)
}

// SR-12; test_open_connection_error, test_open_unix_connection_error: whatever
// ends the connection is what a read returns.
func TestAnyErrorReachesTheReader(t *testing.T) {
	cause := errors.New("division by zero")
	s := open(t, unix, 0)
	s.feed("data")
	s.Protocol.ConnectionLost(cause)
	wantData(t, "data")(s.ReadSome(cancelled, 10))
	_, err := s.ReadAll(cancelled)
	require.Equal(t, cause, err)
	s.Protocol.ConnectionLost(errors.New("another"))
	require.Equal(t, cause, s.Err(), "the first error wins")
}

// SR-12: also if the end of file came before; nothing is received after that.
func TestErrorAfterEOF(t *testing.T) {
	p := streams.NewProtocol(0)
	p.ConnectionMade(&fake{})
	p.DataReceived([]byte("data"))
	p.EOFReceived()
	p.DataReceived([]byte("after the end"))
	cause := errors.New("division by zero")
	p.ConnectionLost(cause)
	wantData(t, "data")(p.Reader().ReadSome(cancelled, 100))
	_, err := p.Reader().ReadSome(cancelled, 1)
	require.Equal(t, cause, err)
}

// SR-12: a clean end is an end of file, and leaves what was received.
func TestCleanEndLeavesData(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		s := open(t, k, 0)
		s.feed("data")
		s.Close()
		s.awaitLost()
		require.False(t, s.AtEOF())
		wantData(t, "data")(s.ReadAll(cancelled))
		require.True(t, s.AtEOF())
	})
}

// SR-13.
func TestCloseEndsReads(t *testing.T) {
	reads := map[string]struct {
		read func(s *stream) ([]byte, error)
		want outcome
	}{
		"ReadSome": {func(s *stream) ([]byte, error) { return s.ReadSome(context.Background(), 9) }, outcome{nil, io.EOF}},
		"ReadAll":  {func(s *stream) ([]byte, error) { return s.ReadAll(context.Background()) }, outcome{[]byte{}, nil}},
		"ReadLine": {func(s *stream) ([]byte, error) { return s.ReadLine(context.Background()) }, outcome{nil, io.EOF}},
		"ReadExactly": {
			func(s *stream) ([]byte, error) { return s.ReadExactly(context.Background(), 9) },
			outcome{nil, &streams.IncompleteReadError{Partial: []byte{}, Expected: 9}},
		},
	}
	for name, test := range reads {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, pipe, 0)
				got := async(func() ([]byte, error) { return test.read(s) })
				synctest.Wait()
				require.Empty(t, got)
				s.Close()
				require.Equal(t, test.want, <-got)
			})
		})
	}
}

// SR-14: more than twice the limit pauses, no more than the limit resumes,
// whichever method reads.
func TestPausesAndResumes(t *testing.T) {
	reads := map[string]func(s *stream) ([]byte, error){
		"Read":        func(s *stream) ([]byte, error) { return readInto(s.Reader, 3) },
		"ReadSome":    func(s *stream) ([]byte, error) { return s.ReadSome(cancelled, 3) },
		"ReadLine":    func(s *stream) ([]byte, error) { return s.ReadLine(cancelled) },
		"ReadExactly": func(s *stream) ([]byte, error) { return s.ReadExactly(cancelled, 3) },
		"ReadUntil":   func(s *stream) ([]byte, error) { return s.ReadUntil(cancelled, []byte("\n")) },
	}
	eachKind(t, func(t *testing.T, k kind) {
		for name, read := range reads {
			t.Run(name, func(t *testing.T) {
				s := open(t, k, 5)
				for range 2 {
					s.feed("ab\n", "cd\n", "efgh")
					require.True(t, s.Transport().IsReading(), "twice the limit is not more")
					s.feed("i")
					require.False(t, s.Transport().IsReading())
					wantData(t, "ab\n")(read(s))
					require.False(t, s.Transport().IsReading(), "more than the limit is left")
					wantData(t, "cd\n")(read(s))
					require.True(t, s.Transport().IsReading(), "the limit is left")
					s.wantRest("efghi")
				}
			})
		}
	})
}

// SR-14: a read that has to wait resumes, although more than the limit is
// there: otherwise it would wait for ever. As long as it waits nothing pauses.
func TestWaitingReadResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, pipe, 5)
		reading := s.Transport().IsReading
		s.feed("0123456789a")
		require.False(t, reading())
		got := async(func() ([]byte, error) { return s.ReadExactly(context.Background(), 20) })
		synctest.Wait()
		require.True(t, reading())
		s.feed("bcdef")
		require.True(t, reading())
		s.feed("ghijklmnopq")
		o := <-got
		wantData(t, "0123456789abcdefghij")(o.data, o.err)
		s.wantRest("klmnopq")
	})
}

// SR-14: a read that waits for much does not make the transport stop and go.
func TestWaitingReadDoesNotPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &fake{}
		p := streams.NewProtocol(5)
		p.ConnectionMade(transport)
		got := async(func() ([]byte, error) { return p.Reader().ReadExactly(context.Background(), 100) })
		synctest.Wait()
		for range 9 {
			p.DataReceived(make([]byte, 11))
		}
		synctest.Wait()
		require.Zero(t, transport.pauses)
		p.DataReceived(make([]byte, 12))
		require.Len(t, (<-got).data, 100)
		require.Equal(t, 1, transport.pauses, "11 bytes are left")
	})
}

// SR-14: a line that is too long is dropped, which makes room as reading does.
func TestDroppedLineResumes(t *testing.T) {
	s := open(t, tcp, 5)
	s.feed("0123456789abcdef\nx")
	require.False(t, s.Transport().IsReading())
	_, err := s.ReadLine(cancelled)
	wantOverrun(t, err, 16, true)
	require.True(t, s.Transport().IsReading())
	s.wantRest("x")
}

// SR-14: the peer has to stop in the end, and what it sent arrives.
func TestPauseStopsThePeer(t *testing.T) {
	s := open(t, tcp, 1000)
	sent := pattern(16 << 20)
	written := make(chan error, 1)
	go func() {
		_, err := s.peer.Write(sent)
		s.peer.Close()
		written <- err
	}()
	s.await("a pause", func() bool { return s.received > 2000 })
	require.Less(t, s.Buffered(), 2000+256<<10+1)
	require.Empty(t, written, "16 MiB do not fit into the kernel")
	got, err := s.ReadAll(within(t))
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.True(t, bytes.Equal(sent, got))
}

// SR-14: test_read_all_from_pipe_reader.
func TestReadAllFromPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("pipes cannot be waited for on Windows")
	}
	pr, pw, err := os.Pipe()
	require.NoError(t, err)
	_, p, err := strand.ConnectReadPipe(context.Background(), pr, func() *streams.Protocol { return streams.NewProtocol(1) }, nil)
	require.NoError(t, err)
	_, err = io.WriteString(pw, "data")
	require.NoError(t, err)
	require.NoError(t, pw.Close())
	wantData(t, "data")(p.Reader().ReadAll(within(t)))
	require.NoError(t, p.Writer().WaitClosed(within(t)))
}

// SR-15; test_exception_cancel.
func TestCancelledReadLosesNothing(t *testing.T) {
	reads := map[string]func(s *stream, ctx context.Context) ([]byte, error){
		"ReadAll":     func(s *stream, ctx context.Context) ([]byte, error) { return s.ReadAll(ctx) },
		"ReadLine":    func(s *stream, ctx context.Context) ([]byte, error) { return s.ReadLine(ctx) },
		"ReadExactly": func(s *stream, ctx context.Context) ([]byte, error) { return s.ReadExactly(ctx, 20) },
		"ReadUntil":   func(s *stream, ctx context.Context) ([]byte, error) { return s.ReadUntil(ctx, []byte("\n")) },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, pipe, 0)
				ctx, cancel := context.WithCancelCause(context.Background())
				got := async(func() ([]byte, error) { return read(s, ctx) })
				s.feed("line1 ")
				synctest.Wait()
				why := errors.New("enough")
				cancel(why)
				require.Equal(t, outcome{nil, why}, <-got)
				s.feed("and more\n")
				wantData(t, "line1 and more\n")(s.ReadLine(context.Background()))
				s.feedEOF()
			})
		})
	}
}

// SR-15: data and the end of the context at the same time.
func TestCancelAndDataRace(t *testing.T) {
	p := streams.NewProtocol(0)
	p.ConnectionMade(&fake{})
	for i := range 2000 {
		ctx, cancel := context.WithCancel(context.Background())
		got := async(func() ([]byte, error) { return p.Reader().ReadExactly(ctx, 2) })
		p.DataReceived([]byte{byte(i)})
		go cancel()
		p.DataReceived([]byte{byte(i)})
		o := await(t, "ReadExactly", got)
		if o.err != nil {
			require.Equal(t, context.Canceled, o.err)
			o.data, o.err = p.Reader().ReadExactly(cancelled, 2)
		}
		wantData(t, string([]byte{byte(i), byte(i)}))(o.data, o.err)
		cancel()
	}
}

// SR-15: what has arrived wins over a context that has ended.
func TestDataWinsOverCancel(t *testing.T) {
	s := open(t, tcp, 0)
	_, err := s.ReadSome(cancelled, 1)
	require.Equal(t, context.Canceled, err)
	s.feed("ab")
	wantData(t, "a")(s.ReadSome(cancelled, 1))
	wantData(t, "b")(s.ReadExactly(cancelled, 1))
}

// What a read returns is the caller's: nothing that comes later changes it.
func TestResultsBelongToTheCaller(t *testing.T) {
	s := open(t, tcp, 64<<10)
	var got [][]byte
	var want []byte
	for i := range 20 {
		chunk := bytes.Repeat([]byte{byte('a' + i)}, 10_000)
		chunk[len(chunk)-1] = '\n'
		s.feed(string(chunk))
		want = append(want, chunk...)
		var p []byte
		var err error
		switch i % 4 {
		case 0:
			p, err = s.ReadLine(cancelled)
		case 1:
			p, err = s.ReadExactly(cancelled, len(chunk))
		case 2:
			p, err = s.ReadSome(cancelled, len(chunk))
		case 3:
			p, err = s.ReadUntil(cancelled, chunk[len(chunk)-2:])
		}
		require.NoError(t, err)
		got = append(got, p)
	}
	require.True(t, bytes.Equal(want, bytes.Join(got, nil)))
}
