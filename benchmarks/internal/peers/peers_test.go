package peers

import (
	"errors"
	"slices"
	"testing"

	"github.com/gostrand/strand/benchmarks/internal/scenario"
)

func TestFlagsFollowTheKind(t *testing.T) {
	for _, c := range []struct {
		listen Listen
		want   []string
	}{
		{Listen{Kind: scenario.Unix, Addr: "s"}, []string{"p", "-net", "unix", "-addr", "s"}},
		{Listen{Kind: scenario.TLS, Addr: "a"}, []string{"p", "-net", "tcp", "-addr", "a", "-tls"}},
		{Listen{Kind: scenario.File, Addr: "a", File: "f"}, []string{"p", "-net", "tcp", "-addr", "a", "-file", "f"}},
	} {
		if got := program("p")(c.listen); !slices.Equal(got, c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}

func TestNamesAreUniqueAndBeginWithTheBase(t *testing.T) {
	names := Names()
	if names[0] != Base {
		t.Errorf("first is %s: the tables put the base first", names[0])
	}
	if slices.Sort(names); len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("names twice in %v", names)
	}
}

func TestBuildErrorsAreShort(t *testing.T) {
	out := []byte("# package\n\na.go:1: broken\na.go:2: more\na.go:3: and more\n")
	if got, want := firstLines(out, errors.New("exit 1")), "a.go:1: broken; a.go:2: more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := firstLines(nil, errors.New("exit 1")); got != "exit 1" {
		t.Errorf("%q where nothing was printed", got)
	}
}
