package strandtest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/gostrand/strand"
)

// PairOptions are the settings of PairWith. The zero value is what Pair does.
type PairOptions struct {
	// Capacity is what each direction holds, in bytes. Default 64 KiB.
	Capacity int

	// FaultsA and FaultsB are what goes wrong at each end. A Seed of zero is
	// replaced by one of the function Seed.
	FaultsA, FaultsB Faults

	// A and B are the options of the two transports.
	A, B strand.AttachOptions
}

// Pair connects two protocols through real transports and an in-memory
// connection, and returns the transports, a's first. It blocks until
// ConnectionMade of both has returned. The connection is aborted with the
// test, and its end waited for. In a synctest bubble use the bubble's t.
func Pair(t testing.TB, a, b strand.Protocol) (ta, tb strand.Transport) {
	t.Helper()
	return PairWith(t, a, b, nil)
}

// PairWith is Pair with options, which may be nil.
func PairWith(t testing.TB, a, b strand.Protocol, opts *PairOptions) (ta, tb strand.Transport) {
	t.Helper()
	var o PairOptions
	if opts != nil {
		o = *opts
	}
	ca, cb := Pipe(o.Capacity)
	return attachBoth(t, o.FaultsA.withSeed(t).apply(ca), o.FaultsB.withSeed(t).apply(cb), a, b, &o)
}

// withSeed fills in a seed if there is something to choose.
func (f Faults) withSeed(t testing.TB) Faults {
	if f != (Faults{}) && f.Seed == 0 {
		f.Seed = Seed(t)
	}
	return f
}

// apply is Conn, without a wrapper if there is no fault.
func (f Faults) apply(conn net.Conn) net.Conn {
	if f == (Faults{}) {
		return conn
	}
	return f.Conn(conn)
}

// attachBoth makes transports of the two ends of a connection at the same time:
// a TLS handshake needs both.
func attachBoth(t testing.TB, ca, cb net.Conn, a, b strand.Protocol, o *PairOptions) (ta, tb strand.Transport) {
	t.Helper()
	type attached struct {
		tr  strand.Transport
		err error
	}
	second := make(chan attached, 1)
	go func() {
		tr, _, err := strand.Attach(context.Background(), cb, func() strand.Protocol { return b }, &o.B)
		second <- attached{tr, err}
	}()
	ta, _, err := strand.Attach(context.Background(), ca, func() strand.Protocol { return a }, &o.A)
	if err != nil {
		ca.Close() // ends the other handshake
	}
	got := <-second
	tb = got.tr
	if err == nil {
		abortWithTest(t, ta)
	}
	if got.err == nil {
		abortWithTest(t, tb)
	}
	if err != nil || got.err != nil {
		t.Fatalf("strandtest: attaching failed: %v, %v", err, got.err)
	}
	return ta, tb
}

// abortWithTest ends a transport with the test and waits for its end.
func abortWithTest(t testing.TB, tr strand.Transport) {
	t.Cleanup(func() {
		tr.Abort()
		AwaitDone(t, tr)
	})
}

// AwaitDone waits until ConnectionLost of a transport has returned. It fails
// the test if that takes more than a minute, in a synctest bubble a year. It must
// not be called from a callback.
func AwaitDone(t testing.TB, tr strand.BaseTransport) {
	t.Helper()
	timeout := time.NewTimer(patience())
	defer timeout.Stop()
	select {
	case <-tr.Done():
	case <-timeout.C:
		t.Fatalf("strandtest: the transport never came to its end")
	}
}
