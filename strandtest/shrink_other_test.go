//go:build !unix

package strandtest

import (
	"testing"

	"github.com/gostrand/strand"
)

func shrinkSocket(testing.TB, strand.Transport) {}
