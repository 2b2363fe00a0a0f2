package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// buildLimit bounds one build; the first may compile all dependencies.
const buildLimit = 5 * time.Minute

// builder is what the build steps share.
type builder struct {
	ctx  context.Context
	root string // the directory of this module
	bin  string // where programs go
}

// Build builds the servers with the wanted names, and the load generator. A
// server that does not build is left out; without the load generator there is
// nothing to do.
func Build(ctx context.Context, root, bin string, wanted []string) (servers []Server, left []LeftOut, err error) {
	b := &builder{ctx, root, bin}
	if err := b.run(root, "go", "build", "-o", LoadPath(bin), "./cmd/load"); err != nil {
		return nil, nil, fmt.Errorf("the load generator does not build: %w", err)
	}
	for _, r := range recipes() {
		if !slices.Contains(wanted, r.name) {
			continue
		}
		command, err := r.build(b)
		if err != nil {
			left = append(left, LeftOut{fmt.Sprintf("%s %v", r.name, r.kinds), err.Error()})
			continue
		}
		servers = append(servers, Server{r.name, r.kinds, command})
	}
	return servers, left, ctx.Err()
}

// LoadPath is where Build puts the load generator.
func LoadPath(bin string) string { return filepath.Join(bin, "load") }

// run executes a build step and condenses its output into the error.
func (b *builder) run(dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(b.ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	return errors.New(firstLines(out, err))
}

// firstLines keeps an error message to what fits in one line of a report.
func firstLines(out []byte, err error) string {
	lines := strings.Split(string(bytes.TrimSpace(out)), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" || strings.HasPrefix(l, "#") })
	if len(lines) == 0 {
		return err.Error()
	}
	return strings.Join(lines[:min(len(lines), 2)], "; ")
}

func program(path string) func(Listen) []string {
	return func(l Listen) []string { return append([]string{path}, l.flags()...) }
}

func goServer(name string) func(*builder) (func(Listen) []string, error) {
	return func(b *builder) (func(Listen) []string, error) {
		path := filepath.Join(b.bin, "server-"+name)
		return program(path), b.run(b.root, "go", "build", "-o", path, "./servers/"+name)
	}
}

// strandEcho builds the root module's own example, in that module.
func strandEcho(b *builder) (func(Listen) []string, error) {
	path := filepath.Join(b.bin, "server-strand")
	return program(path), b.run(filepath.Dir(b.root), "go", "build", "-o", path, "./examples/echo-bench-server")
}

func cEpoll(b *builder) (func(Listen) []string, error) {
	path := filepath.Join(b.bin, "server-epoll")
	for _, cc := range []string{"gcc", "cc"} {
		if _, err := exec.LookPath(cc); err == nil {
			return program(path), b.run(b.root, cc, "-O2", "-Wall", "-o", path, "servers/epoll/echo.c")
		}
	}
	return nil, errors.New("no C compiler (gcc or cc)")
}

// asyncio needs the interpreter only.
func asyncio(flags ...string) func(*builder) (func(Listen) []string, error) {
	return func(b *builder) (func(Listen) []string, error) {
		return python(b, []string{"python3"}, "asyncio", flags...)
	}
}

// uvloop is often installed for the system's interpreter alone.
func uvloop(b *builder) (func(Listen) []string, error) {
	return python(b, []string{"python3", "/usr/bin/python3"}, "uvloop", "-uvloop")
}

func python(b *builder, interpreters []string, module string, flags ...string) (func(Listen) []string, error) {
	script := filepath.Join(b.root, "servers", "asyncio", "echo.py")
	for _, name := range interpreters {
		if b.run(b.root, name, "-c", "import "+module) != nil {
			continue
		}
		return func(l Listen) []string {
			argv := append([]string{name, script}, l.flags()...)
			argv = append(argv, "-cert", l.Cert, "-key", l.Key)
			return append(argv, flags...)
		}, nil
	}
	return nil, fmt.Errorf("no Python that can import %s", module)
}
