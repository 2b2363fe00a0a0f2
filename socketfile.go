package strand

import "os"

// socketFile is the file of a Unix socket that was bound here. The zero
// socketFile is none.
type socketFile struct {
	path string
	info os.FileInfo
}

// noteSocketFile remembers the file at path, so that remove can tell it from
// another one that has taken its place (US-02).
func noteSocketFile(path string) socketFile {
	if path == "" || isAbstract(path) {
		return socketFile{}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return socketFile{}
	}
	return socketFile{path, info}
}

// remove removes the file, if it is still the one.
func (f socketFile) remove() error {
	if f.info == nil {
		return nil
	}
	if info, err := os.Lstat(f.path); err != nil || !os.SameFile(info, f.info) {
		return nil
	}
	return os.Remove(f.path)
}
