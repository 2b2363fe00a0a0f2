//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// conditions are what a reader must know to judge the figures.
func conditions(o options) []string {
	placement := "nothing pinned"
	if o.pin {
		placement = "server pinned to one processor, client to another"
	}
	return []string{
		fmt.Sprintf("%s, %d processors, Linux %s, %s", processor(), runtime.NumCPU(), kernel(), runtime.Version()),
		fmt.Sprintf("client on the same machine, over loopback; %s", placement),
		fmt.Sprintf("medians (and ranges) of %d rounds of %v in %d slices, the servers taking turns, each after %v of warm-up",
			o.rounds, o.duration, o.slices, o.warmup),
		"\"x net\": ratio to the plain net.Conn loop in the same round",
	}
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "of unknown version"
	}
	// What follows the version number names the builder.
	version, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	return version
}
