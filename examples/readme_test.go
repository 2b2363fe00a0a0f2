package examples

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// snippets are what README.md shows in Go, in its order: the files that they
// would be, and what stands above them there.
var snippets = []struct{ file, head string }{
	{"echo/main.go", "package main\nimport (\"context\"; \"log\"; \"github.com/gostrand/strand\")\n"},
	{"byhand/byhand.go", "package byhand\nimport (\"errors\"; \"io\"; \"net\"; \"sync\")\n"},
	{"lines/lines.go", "package lines\nimport (\"context\"; \"github.com/gostrand/strand/streams\")\n"},
	{"echo/main_test.go", "package main\nimport (\"strings\"; \"testing\"; \"github.com/gostrand/strand/strandtest\")\n"},
}

// TestReadmeCompiles builds them in this module, where their directories are
// overlaid, and runs the test among them.
func TestReadmeCompiles(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	require.Len(t, blocks, len(snippets))
	overlaid, err := filepath.Abs("readme")
	require.NoError(t, err)
	dir := t.TempDir()
	replace := make(map[string]string)
	for i, s := range snippets {
		code := blocks[i][1]
		formatted, err := format.Source(code)
		require.NoError(t, err, "%s", code)
		require.Equal(t, string(formatted), string(code))
		file := filepath.Join(dir, strconv.Itoa(i)+".go")
		require.NoError(t, os.WriteFile(file, append([]byte(s.head), code...), 0o600))
		replace[filepath.Join(overlaid, s.file)] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	list := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(list, overlay, 0o600))

	echo := filepath.Join(dir, "echo.exe") // on every system, Windows wants it
	for _, args := range [][]string{
		{"go", "build", "-overlay", list, "./readme/byhand", "./readme/lines"},
		{"go", "test", "-c", "-vet=off", "-o", echo, "-overlay", list, "./readme/echo"}, // vet, and go test itself, want a directory
		{echo},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
}
