package strandtest

import "fmt"

// waterMarks fills in what a call of SetWriteBufferLimits leaves out, as the
// comment there says (FC-02, FC-03).
func waterMarks(high, low int) (h, l int, err error) {
	switch {
	case high < 0 && low < 0:
		high, low = 64<<10, 16<<10
	case high < 0:
		high = 4 * low
	case low < 0:
		low = high / 4
	}
	if high < low {
		return 0, 0, fmt.Errorf("strandtest: the high-water mark %d is below the low one, %d", high, low)
	}
	return high, low, nil
}
