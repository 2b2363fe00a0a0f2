package loadgen

import (
	"math"
	"testing"
)

func TestValidate(t *testing.T) {
	good := Config{Mode: Echo, Conns: 1, Depth: 1, Size: 64}
	if err := good.validate(); err != nil {
		t.Errorf("a plain echo is refused: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"no connection":             func(c *Config) { c.Conns = 0 },
		"nothing in flight":         func(c *Config) { c.Depth = 0 },
		"empty message":             func(c *Config) { c.Size = 0 },
		"message over the buffer":   func(c *Config) { c.Size = maxSize + 1 },
		"datagram without a number": func(c *Config) { c.Mode, c.Size = Datagram, 7 },
		"negative rate":             func(c *Config) { c.Rate = -1 },
		"rate beyond the clock":     func(c *Config) { c.Rate = 1e12 },
		"rate that is no number":    func(c *Config) { c.Rate = math.NaN() },
		"paced pipeline":            func(c *Config) { c.Rate, c.Depth = 100, 2 },
		"memory of no process":      func(c *Config) { c.Mode = Idle },
	} {
		bad := good
		change(&bad)
		if bad.validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
