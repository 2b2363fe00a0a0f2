package scenario

import (
	"regexp"
	"testing"
)

func TestNamesAreUniqueAndTitled(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if s.Name == "" || s.Title == "" || s.Unit.Ops == 0 || seen[s.Name] {
			t.Errorf("scenario %+v lacks a name, title or unit, or is there twice", s)
		}
		seen[s.Name] = true
	}
}

func TestMatch(t *testing.T) {
	for re, want := range map[string]int{"": len(All()), "^idle": 3, "^tcp-64-c64$": 1, "nothing": 0} {
		if got := Match(regexp.MustCompile(re)); len(got) != want {
			t.Errorf("%q matches %d scenarios, want %d", re, len(got), want)
		}
	}
}

func TestKindsHaveNetworks(t *testing.T) {
	for kind, want := range map[Kind]string{TCP: "tcp", TLS: "tcp", File: "tcp", Unix: "unix", UDP: "udp"} {
		if got := kind.Net(); got != want {
			t.Errorf("%s runs over %s, want %s", kind, got, want)
		}
	}
}
