package streams

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A timer that fires while the deadline is being moved is too late.
func TestDeadlineIgnoresOldTimers(t *testing.T) {
	var d deadline
	d.set(time.Now().Add(time.Hour))
	old := d.moves
	d.set(time.Now().Add(2 * time.Hour))
	d.pass(old)
	require.False(t, d.passedLocked())
	d.pass(d.moves)
	require.True(t, d.passedLocked())
	d.close()
	d.pass(d.moves) // and closes nothing twice
}
