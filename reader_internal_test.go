package strand

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// After data that came together with a RST only a send can tell of the RST, and
// only one that began after the reader woke: a sender may be held up between
// its system call and the note of it.
func TestWhatASendProves(t *testing.T) {
	var s stream
	s.wakes.Add(1)
	require.False(t, s.drained(false), "nothing was sent")
	before := s.wakes.Load()
	s.wakes.Add(1) // for data and a RST, while the sender was held up
	s.triedLocked(before, 1, nil)
	require.False(t, s.drained(false), "the send was before the RST")
	s.triedLocked(s.wakes.Load(), 1, nil)
	require.True(t, s.drained(false))
	require.False(t, s.drained(true), "the receive knows better")
}
