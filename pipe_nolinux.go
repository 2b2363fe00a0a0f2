//go:build !linux

package strand

import "os"

// reopen can only be done through Linux's /proc.
func reopen(*os.File) *os.File { return nil }
