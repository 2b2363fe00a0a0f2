package strand

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// addrs makes addresses of short names: "4a" is IPv4, "6a" IPv6.
func addrs(names ...string) (list []netip.AddrPort) {
	for _, name := range names {
		host := "10.0.0." + fmt.Sprint(name[1]-'a')
		if name[0] == '6' {
			host = "2001:db8::" + fmt.Sprint(name[1]-'a')
		}
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(host), 80))
	}
	return list
}

// nameOf undoes addrs.
func nameOf(a netip.AddrPort) string {
	family := "6"
	if a.Addr().Is4() {
		family = "4"
	}
	bytes := a.Addr().AsSlice()
	return family + string('a'+rune(bytes[len(bytes)-1]))
}

// CN-05: the first n of the first family stay in front, then the families take
// turns; the order within a family is the resolver's.
func TestInterleave(t *testing.T) {
	for _, tt := range []struct {
		n        int
		in, want string
	}{
		{0, "4a 4b 6a 6b", "4a 4b 6a 6b"},
		{-1, "4a 4b 6a 6b", "4a 4b 6a 6b"},
		{1, "4a 4b 6a 6b", "4a 6a 4b 6b"},
		{1, "6a 4a 6b 4b", "6a 4a 6b 4b"},
		{2, "6a 6b 6c 4a 4b", "6a 6b 4a 6c 4b"},
		{3, "6a 6b 6c 4a 4b", "6a 6b 6c 4a 4b"},
		{9, "6a 6b 4a 4b", "6a 6b 4a 4b"},
		{1, "4a 4b 4c 6a", "4a 6a 4b 4c"},
		{1, "4a 6a 6b 6c", "4a 6a 6b 6c"},
		{1, "4a", "4a"},
		{1, "", ""},
	} {
		var got []string
		for _, a := range interleave(addrs(strings.Fields(tt.in)...), tt.n) {
			got = append(got, nameOf(a))
		}
		require.Equal(t, tt.want, strings.Join(got, " "), "%q with %d", tt.in, tt.n)
	}
}

// dialer is a network in which every address answers as the test says.
type dialer struct {
	answers map[string]answer

	mu    sync.Mutex
	start time.Time
	log   []string // "4a at 0s", in the order of the attempts
	open  int      // connections that were made and not closed
}

// answer is what comes of dialing an address after some time; no answer at all
// means that only cancelling ends the attempt.
type answer struct {
	after time.Duration
	err   error
	deaf  bool // goes on although it is cancelled
}

type fakeConn struct {
	net.Conn
	d    *dialer
	name string
}

func (c *fakeConn) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.open--
	return nil
}

func (d *dialer) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	name := nameOf(addr)
	d.mu.Lock()
	d.log = append(d.log, fmt.Sprint(name, " at ", time.Since(d.start)))
	d.mu.Unlock()
	a, ok := d.answers[name]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	done := ctx.Done()
	if a.deaf {
		done = nil
	}
	select {
	case <-time.After(a.after):
	case <-done:
		return nil, ctx.Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	return &fakeConn{d: d, name: name}, nil
}

// inBubble runs a race in a bubble of its own, where time costs nothing, and
// checks that no connection but the winner's stays open.
func inBubble(t *testing.T, answers map[string]answer, run func(t *testing.T, d *dialer) net.Conn) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{answers: answers, start: time.Now()}
		conn := run(t, d)
		if conn != nil {
			conn.Close()
		}
		require.Zero(t, d.open, "connections left open")
	})
}

const sec = time.Second

// CN-01: without a delay one address after the other is tried, in order.
func TestRaceSequential(t *testing.T) {
	inBubble(t, map[string]answer{"4a": {sec, errors.New("a"), false}, "4b": {5 * sec, nil, false}}, func(t *testing.T, d *dialer) net.Conn {
		conn, err := race(t.Context(), addrs("4a", "4b", "4c"), -1, d.dial)
		require.NoError(t, err)
		require.Equal(t, "4b", conn.(*fakeConn).name)
		require.Equal(t, []string{"4a at 0s", "4b at 1s"}, d.log)
		require.Equal(t, 6*sec, time.Since(d.start))
		return conn
	})
}

// CN-04: the next attempt starts when the delay is over or the last one has
// failed, whichever is first; the first success wins.
func TestRaceStarts(t *testing.T) {
	inBubble(t, map[string]answer{
		"4a": {10 * sec, nil, false},
		"4b": {sec, errors.New("b"), false},
		"4c": {4 * sec, nil, false},
	}, func(t *testing.T, d *dialer) net.Conn {
		conn, err := race(t.Context(), addrs("4a", "4b", "4c", "4d"), 2*sec, d.dial)
		require.NoError(t, err)
		require.Equal(t, "4c", conn.(*fakeConn).name)
		require.Equal(t, []string{"4a at 0s", "4b at 2s", "4c at 3s", "4d at 5s"}, d.log)
		require.Equal(t, 7*sec, time.Since(d.start), "nobody waits for the others")
		return conn
	})
}

// CN-04: a failure of an older attempt says nothing about the newest, which
// keeps its delay.
func TestRaceOldFailure(t *testing.T) {
	inBubble(t, map[string]answer{"4a": {3 * sec, errors.New("a"), false}, "4c": {0, nil, false}}, func(t *testing.T, d *dialer) net.Conn {
		conn, err := race(t.Context(), addrs("4a", "4b", "4c"), 2*sec, d.dial)
		require.NoError(t, err)
		require.Equal(t, []string{"4a at 0s", "4b at 2s", "4c at 4s"}, d.log)
		return conn
	})
}

// CN-04: an attempt that succeeds although it was cancelled is closed.
func TestRaceClosesLateSuccess(t *testing.T) {
	inBubble(t, map[string]answer{"4a": {5 * sec, nil, true}, "4b": {sec, nil, false}}, func(t *testing.T, d *dialer) net.Conn {
		conn, err := race(t.Context(), addrs("4a", "4b"), 2*sec, d.dial)
		require.NoError(t, err)
		require.Equal(t, "4b", conn.(*fakeConn).name)
		require.Equal(t, 1, d.open)
		return conn
	})
}

// CN-02, CN-04: if all fail, the errors come in the order of the attempts,
// whatever the order of the failures.
func TestRaceAllFail(t *testing.T) {
	a, b, c := errors.New("a failed"), errors.New("b failed"), errors.New("c failed")
	inBubble(t, map[string]answer{"4a": {10 * sec, a, false}, "4b": {sec, b, false}, "4c": {sec, c, false}}, func(t *testing.T, d *dialer) net.Conn {
		conn, err := race(t.Context(), addrs("4a", "4b", "4c"), 2*sec, d.dial)
		require.Nil(t, conn)
		for _, one := range []error{a, b, c} {
			require.ErrorIs(t, err, one)
		}
		require.EqualError(t, err, "a failed\nb failed\nc failed")
		require.Equal(t, 10*sec, time.Since(d.start))
		return nil
	})
}

// CN-02: a single error stays as it is.
func TestRaceOneFails(t *testing.T) {
	only := errors.New("only")
	inBubble(t, map[string]answer{"4a": {0, only, false}}, func(t *testing.T, d *dialer) net.Conn {
		_, err := race(t.Context(), addrs("4a"), sec, d.dial)
		require.True(t, err == only)
		return nil
	})
}

// CN-09: cancelling ends every attempt, starts no other, and says why.
func TestRaceCancelled(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, d *dialer) net.Conn {
		reason := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*sec, func() { cancel(reason) })
		_, err := race(ctx, addrs("4a", "4b", "4c", "4d"), 2*sec, d.dial)
		require.ErrorIs(t, err, reason)
		require.Equal(t, []string{"4a at 0s", "4b at 2s"}, d.log)
		require.Equal(t, 3*sec, time.Since(d.start))
		return nil
	})
}

// CN-09: a context that has ended before starts nothing that stays.
func TestRaceCancelledBefore(t *testing.T) {
	inBubble(t, map[string]answer{"4a": {0, nil, true}}, func(t *testing.T, d *dialer) net.Conn {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		conn, err := race(ctx, addrs("4a", "4b"), sec, d.dial)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, conn)
		return nil
	})
}
