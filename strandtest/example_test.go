package strandtest_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostrand/strand"
	"github.com/gostrand/strand/strandtest"
)

// Lines answers each line with its length, and ends a connection that is quiet
// for a minute.
type Lines struct {
	strand.NopProtocol
	t    strand.Transport
	line []byte
	quit *strand.Timer
}

func (l *Lines) ConnectionMade(t strand.Transport) {
	l.t = t
	l.wait()
}

func (l *Lines) DataReceived(data []byte) {
	l.wait()
	l.line = append(l.line, data...)
	for {
		line, rest, found := bytes.Cut(l.line, []byte("\n"))
		if !found {
			return
		}
		fmt.Fprintf(l.t, "%d\n", len(line))
		l.line = rest
	}
}

func (l *Lines) wait() {
	l.quit.Stop()
	l.quit = l.t.CallLater(time.Minute, func() { l.t.Close() })
}

// A test of one protocol by itself: no network, no goroutine, no waiting.
func Example() {
	tr := strandtest.NewTransport(new(Lines))
	tr.Feed("hello\nwor")
	tr.Feed("ld\n")
	fmt.Printf("%q\n", tr.Written())

	tr.Advance(time.Minute)
	_, lost := tr.Lost()
	fmt.Println("lost after a minute:", lost)
	// Output:
	// "5\n5\n"
	// lost after a minute: true
}

// The same protocol with a real transport and a bad network, in a bubble where
// a minute takes no time; Check watches both the transport and the protocol.
func ExamplePairWith() {
	test := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := new(strandtest.Recorder)
			ta, _ := strandtest.PairWith(t, client, strandtest.Check(t, new(Lines)), &strandtest.PairOptions{
				FaultsB: strandtest.Faults{Chunks: strandtest.SingleBytes, Latency: time.Second},
			})
			ta.Write([]byte("hello\n"))
			if got := client.AwaitData(t, 2); string(got) != "5\n" {
				t.Errorf("the answer was %q", got)
			}
			client.AwaitLost(t) // after a minute
		})
	}
	_ = test // go test runs it in a function TestLines
}

// This is how the tests of package strand itself use the suite.
func ExampleTestTransport() {
	inMemory := func(t testing.TB, a, b strand.Protocol, opts strand.TransportOptions) (ta, tb strand.Transport) {
		o := strand.AttachOptions{TransportOptions: opts}
		return strandtest.PairWith(t, a, b, &strandtest.PairOptions{Capacity: 10_000, A: o, B: o})
	}
	_ = func(t *testing.T) { strandtest.TestTransport(t, inMemory) }
}

func TestLinesExample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := new(strandtest.Recorder)
		ta, _ := strandtest.PairWith(t, client, strandtest.Check(t, new(Lines)), &strandtest.PairOptions{
			FaultsB: strandtest.Faults{Chunks: strandtest.SingleBytes, Latency: time.Second},
		})
		ta.Write([]byte("hello\n"))
		if got := client.AwaitData(t, 2); string(got) != "5\n" {
			t.Errorf("the answer was %q", got)
		}
		client.AwaitLost(t)
	})
}
