//go:build linux

package proc

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseMachine(t *testing.T) {
	got, err := parseMachine("cpu  100 2 50 9000 7 3 5 11 0 0")
	want := Machine{Busy: 1600 * time.Millisecond, Steal: 110 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v: idle and iowait are not busy", got, err, want)
	}
	if _, err := parseMachine("intr 1 2"); err == nil {
		t.Error("a line of another kind is accepted")
	}
	earlier := Machine{Busy: time.Second, Steal: 10 * time.Millisecond}
	if d := want.Sub(earlier); d.Busy != 600*time.Millisecond || d.Steal != 100*time.Millisecond {
		t.Errorf("difference %+v", d)
	}
}

func TestCPUTimeOfThisProcessGrows(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for {
		if now, err := CPUTime(os.Getpid()); err != nil || now > before {
			return
		}
	}
}

func TestRSSOfThisProcess(t *testing.T) {
	if n, err := RSS(os.Getpid()); err != nil || n < 100<<10 {
		t.Errorf("RSS %d, %v", n, err)
	}
	if _, err := RSS(-1); err == nil {
		t.Error("RSS of no process is no error")
	}
}

func TestOneCPU(t *testing.T) {
	s, err := OneCPU(65)
	if err != nil || s[1] != 2 || s[0] != 0 {
		t.Errorf("set %v, %v", s, err)
	}
	s[0] = 1<<3 | 1
	if got := s.List(); !slices.Equal(got, []int{0, 3, 65}) {
		t.Errorf("list %v, want 0, 3 and 65", got)
	}
	if _, err := OneCPU(-1); err == nil {
		t.Error("processor -1 is accepted")
	}
}
