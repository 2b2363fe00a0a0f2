package conformance_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gostrand/strand/conformance"
)

// FuzzScenario reads scenario files that the fuzzer writes. Whatever stands in
// one, reading it must end with an error or with a scenario that has what the
// runner relies on, and that reads as the same when it is written out again.
func FuzzScenario(f *testing.F) {
	for _, name := range []string{"close/*.json", "flow/*.json", "tls/*.json", "server/*.json", "subprocess/*.json"} {
		files, err := filepath.Glob(filepath.Join("..", "testdata", "conformance", filepath.FromSlash(name)))
		require.NoError(f, err)
		for _, file := range files[:min(len(files), 5)] {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Add([]byte(`{"kind": "tcp", "ids": ["X-01"], "protocols": []}`))
	f.Add([]byte(`{"kind": "tcp", "ids": [], "peers": [null]}`))
	f.Add([]byte(`{"kind": "tcp", "ids": ["X-01"], "app": [""]}`))
	path := filepath.Join(f.TempDir(), "scenario.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := read(t, path, data)
		if err != nil {
			return
		}
		require.NotEmpty(t, s.Kind)
		require.NotEmpty(t, s.Role)
		require.NotEmpty(t, s.IDs)
		require.NotNil(t, s.Protocols)
		written, err := json.Marshal(s)
		require.NoError(t, err)
		again, err := read(t, path, written)
		require.NoError(t, err, "what was written cannot be read: %s", written)
		rewritten, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(written), string(rewritten))
	})
}

func read(t *testing.T, path string, data []byte) (*conformance.Scenario, error) {
	require.NoError(t, os.WriteFile(path, data, 0o600))
	found, err := conformance.Discover(path)
	if err != nil {
		return nil, err
	}
	require.Len(t, found, 1)
	return found[0], nil
}
