package strandtest

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // the tests make much garbage of a small heap
	goleak.VerifyTestMain(m)
}
