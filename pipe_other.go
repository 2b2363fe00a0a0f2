//go:build !unix

package strand

import "os"

// isNonblock is about a flag that Unix has.
func isNonblock(*os.File) bool { return true }

// withoutSIGPIPE has nothing to do without SIGPIPE.
func withoutSIGPIPE(*os.File) *os.File { return nil }
