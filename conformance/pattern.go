package conformance

import "strconv"

// patternPeriod is prime, so that a lost or doubled block of any usual size
// shifts the pattern and changes the hash.
const patternPeriod = 65521

var patternBlock = makePattern()

// makePattern must yield the bytes of the oracle's pattern.py.
func makePattern() []byte {
	block, x := make([]byte, patternPeriod), uint64(1)
	for i := range block {
		x = (x*1103515245 + 12345) & 0x7fffffff
		block[i] = byte(x >> 16)
	}
	return block
}

// A source yields one sender's bytes; the pattern goes on from call to call.
type source struct{ offset int }

// take returns the bytes that a DATA token stands for.
func (s *source) take(token string) ([]byte, error) {
	if len(token) > 0 && token[0] == '=' {
		return literal(token[1:]), nil
	}
	n, err := strconv.Atoi(token)
	if err != nil {
		return nil, err
	}
	return s.pattern(n), nil
}

func (s *source) pattern(n int) []byte {
	data := make([]byte, n)
	for filled := 0; filled < n; {
		k := copy(data[filled:], patternBlock[s.offset:])
		filled += k
		s.offset = (s.offset + k) % patternPeriod
	}
	return data
}

func literal(text string) []byte {
	var out []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			c = unescape(text[i])
		}
		out = append(out, c)
	}
	return out
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 's':
		return ' '
	case '0':
		return 0
	}
	return c
}
