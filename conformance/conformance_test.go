package conformance_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gostrand/strand/conformance"
	"github.com/gostrand/strand/internal/testkit"
)

// scenarios is where the files and the golden traces stand.
const scenarios = "../testdata/conformance"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestGolden plays every scenario and compares its trace with the one recorded
// from CPython.
func TestGolden(t *testing.T) { playAll(t, "") }

// TestSingleBytes does so with what peers send cut into single bytes.
func TestSingleBytes(t *testing.T) { playAll(t, "one") }

// TestRandomPieces does so with pieces of random sizes.
func TestRandomPieces(t *testing.T) {
	cut := fmt.Sprintf("random:%d", rand.Uint32())
	t.Logf("repeat with: go run ./conformance/cmd/replay -chunks %s testdata/conformance", cut)
	playAll(t, cut)
}

// TestOneProcessor does so with one processor, where goroutines take turns.
func TestOneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) }) // when the parallel tests are over
	playAll(t, "")
}

func playAll(t *testing.T, cut string) {
	all, err := conformance.Discover(scenarios)
	require.NoError(t, err)
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if s.Kind != "subprocess" {
				// They mostly wait. A child that is being forked holds a copy of every
				// descriptor for a moment: children come before all others, whose ends
				// would be late.
				t.Parallel()
			}
			play(t, s, cut)
		})
	}
}

func play(t *testing.T, s *conformance.Scenario, cut string) {
	got, err := conformance.Play(s, cut, max(conformance.DefaultTimeout, testkit.Patience))
	require.NoError(t, err, "%s\ntrace up to there:\n%s", s.About, got)
	want, err := s.Expected()
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatal("no golden trace: record it with go test ./conformance -run TestOracle -record")
	}
	require.NoError(t, err)
	require.Equal(t, want, got, s.About)
}

// TestScore counts the scenarios and makes sure that README.md says so.
func TestScore(t *testing.T) {
	all, err := conformance.Discover(scenarios)
	require.NoError(t, err)
	differ, ids := 0, make(map[string]bool)
	for _, s := range all {
		if len(s.Differs) > 0 {
			differ++
		}
		for _, id := range s.IDs {
			ids[id] = true
		}
		require.NotEmpty(t, s.About, s.Name)
	}
	score := fmt.Sprintf("%d scenarios: %d identical, %d deliberately different", len(all), len(all)-differ, differ)
	t.Logf("%s; they show %d statements of the contract", score, len(ids))
	require.GreaterOrEqual(t, len(all), 200)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), score)
}

// TestDiffersMustMatch makes sure that a list of differences that no longer
// fits its golden trace is noticed.
func TestDiffersMustMatch(t *testing.T) {
	dir := t.TempDir()
	scenario := `{"about": "x", "ids": ["BT-03"], "kind": "tcp", "differs": [
		{"row": "FC-05", "actor": "c0", "asyncio": ["pause"], "strand": ["resume"]}]}`
	require.NoError(t, os.WriteFile(dir+"/a.json", []byte(scenario), 0o600))
	expected := func(golden string) (string, error) {
		require.NoError(t, os.WriteFile(dir+"/a.trace", []byte(golden), 0o600))
		all, err := conformance.Discover(dir)
		require.NoError(t, err)
		return all[0].Expected()
	}

	got, err := expected("[c0]\nmade\npause\nlost null\n")
	require.NoError(t, err)
	require.Equal(t, "[c0]\nmade\nresume\nlost null\n", got)

	_, err = expected("[c0]\nmade\nlost null\n")
	require.ErrorContains(t, err, "do not stand there")
	_, err = expected("[c0]\npause\npause\n")
	require.ErrorContains(t, err, "more than once")
}

// TestMistakesAreNoticed makes sure that a misspelt scenario is an error and
// not a scenario that shows nothing.
func TestMistakesAreNoticed(t *testing.T) {
	for _, text := range []string{
		`{"ids": ["BT-03"], "kind": "tcp", "protocl": {}}`,
		`{"ids": ["BT-03"], "kind": "carrier pigeon"}`,
		`{"ids": [], "kind": "tcp"}`,
		`{"ids": ["BT-03"], "kind": "tcp", "role": "butler"}`,
		`{"ids": ["BT-03"], "kind": "tcp", "protocol": {"on": {"made": ["wirte 5"]}}}`,
		`{"ids": ["BT-03"], "kind": "tcp", "app": ["ask is_closed"]}`,
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(dir+"/a.json", []byte(text), 0o600))
		_, err := conformance.Discover(dir)
		require.Error(t, err, text)
	}
}

// TestRowsStandInSpec makes sure that every deliberate difference has its
// reason in SPEC.md.
func TestRowsStandInSpec(t *testing.T) {
	spec, err := os.ReadFile("../SPEC.md")
	require.NoError(t, err)
	all, err := conformance.Discover(scenarios)
	require.NoError(t, err)
	for _, s := range all {
		for _, d := range s.Differs {
			for _, row := range strings.Fields(d.Row) {
				require.Contains(t, string(spec), row, s.Name)
			}
		}
	}
}
