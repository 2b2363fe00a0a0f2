//go:build !unix

package strand_test

import (
	"testing"

	"github.com/gostrand/strand"
)

// broadcastOption is not looked up here.
func broadcastOption(testing.TB, strand.DatagramTransport) int { return 1 }
