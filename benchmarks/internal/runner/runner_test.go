//go:build linux

package runner

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gostrand/strand/benchmarks/internal/proc"
	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

func TestAServerThatEndsIsReportedWithItsWords(t *testing.T) {
	var r Runner
	p, err := r.start(t.Context(), []string{"sh", "-c", "echo one >&2; echo two >&2; exit 3"}, proc.CPUSet{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	addr, err := freePort("tcp")
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(t.Context(), "tcp", addr)
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: one") {
		t.Errorf("error %v, want the exit status and the first line", err)
	}
}

func TestWhatADyingServerSaysIsWaitedFor(t *testing.T) {
	load := filepath.Join(t.TempDir(), "load")
	if err := os.WriteFile(load, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := Runner{Load: load}
	p, err := r.start(t.Context(), []string{"sh", "-c", "sleep 0.2; echo overboard >&2; exit 3"}, proc.CPUSet{})
	if err != nil {
		t.Fatal(err)
	}
	s := Session{&r, scenario.All()[0], "", p}
	defer s.Close()
	if _, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "overboard") {
		t.Errorf("error %v, want the server's words as well as the client's", err)
	}
}

func TestGist(t *testing.T) {
	for output, want := range map[string]string{
		"": "", "panic: x\n\ngoroutine 1\n": "panic: x", "Traceback (most recent call last):\n File\nOSError: y\n": "OSError: y",
	} {
		if got := gist(output); got != want {
			t.Errorf("gist of %q is %q, want %q", output, got, want)
		}
	}
}

func TestAChildEndsWithItsContext(t *testing.T) {
	var r Runner
	ctx, cancel := context.WithCancel(t.Context())
	p, err := r.start(ctx, []string{"sleep", "60"}, proc.CPUSet{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Error("the child outlives its context")
	}
}

func TestPinnedChildrenSeeOneProcessor(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpus, err := proc.OneCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	before, err := proc.ThreadAffinity()
	if err != nil {
		t.Fatal(err)
	}
	r := Runner{Pinned: true}
	p, err := r.start(t.Context(), []string{"nproc"}, cpus)
	if err != nil {
		t.Skip("no nproc here: ", err)
	}
	if err := p.wait(t.Context()); err != nil || p.out.String() != "1\n" {
		t.Errorf("the child sees %q processors, %v", p.out.String(), err)
	}
	if after, err := proc.ThreadAffinity(); err != nil || after != before {
		t.Errorf("this thread's processors changed from %v to %v, %v", before, after, err)
	}
}

func TestEveryRunHasItsOwnAddress(t *testing.T) {
	r := Runner{Dir: t.TempDir()}
	a, errA := r.address(scenario.Unix)
	b, errB := r.address(scenario.Unix)
	if errA != nil || errB != nil || a == b {
		t.Errorf("%q and %q, %v %v", a, b, errA, errB)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := WriteFile(path, 1<<20+1); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 1<<20+1 {
		t.Errorf("%v, %v", info, err)
	}
}
