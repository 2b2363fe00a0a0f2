package conformance_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var record = flag.Bool("record", false, "record the golden traces anew from CPython 3.13")

const (
	// pythonVariable names the interpreter to use.
	pythonVariable = "STRAND_PYTHON"
	// goldenVersion is what golden traces are recorded from.
	goldenVersion = "3.13"
	// oldestVersion is the oldest that the oracle runs on.
	oldestVersion = "3.11"
)

// TestOracle runs the oracle with the Python that is here and compares its
// traces with the golden ones; with -record it writes them.
func TestOracle(t *testing.T) {
	python, version := findPython(t)
	t.Logf("oracle: %s is CPython %s", python, version)
	mode := "--check"
	if *record {
		require.True(t, strings.HasPrefix(version, goldenVersion+"."),
			"golden traces are recorded from CPython %s; name one in %s", goldenVersion, pythonVariable)
		mode = "--record"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "oracle.py", "--timeout", "60", mode, scenarios).CombinedOutput()
	t.Logf("%s", lastLine(out))
	require.NoError(t, err, "%s", out)
}

// findPython returns the interpreter to use and its version, or skips the
// test.
func findPython(t *testing.T) (python, version string) {
	names := []string{"python3." + strings.TrimPrefix(goldenVersion, "3."), "python3"}
	if name := os.Getenv(pythonVariable); name != "" {
		names = []string{name}
	}
	const program = "import platform, sys; print(platform.python_version()); sys.exit(sys.version_info[:2] < (3, 11))"
	for _, name := range names {
		out, err := exec.CommandContext(t.Context(), name, "-c", program).Output()
		if err == nil {
			return name, strings.TrimSpace(string(out))
		}
	}
	t.Skipf("no CPython %s or newer: %v; name one in %s", oldestVersion, names, pythonVariable)
	return "", ""
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
