package strand_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/api.txt")

// TestAPI compares what the packages export with testdata/api.txt, so that
// nothing of it changes unnoticed. A change that is meant is written with
// go test -run TestAPI -update . and shows in review.
func TestAPI(t *testing.T) {
	const golden = "testdata/api.txt"
	var b strings.Builder
	for _, dir := range []string{".", "streams", "strandtest"} {
		b.WriteString("package " + filepath.Base(dir) + "\n\n" + strings.Join(exported(t, dir), "\n") + "\n\n")
	}
	got := strings.ReplaceAll(b.String(), "package .\n", "package strand\n")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o666))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	for _, line := range lacking(string(want), got) {
		t.Errorf("no longer there: %s", line)
	}
	for _, line := range lacking(got, string(want)) {
		t.Errorf("new: %s", line)
	}
	if string(want) != got {
		t.Error("the exported API has changed: if that is meant, run go test -run TestAPI -update .")
	}
}

// lacking returns the lines of a that b has not.
func lacking(a, b string) []string {
	there := strings.Split(b, "\n")
	return slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(there, line) })
}

// exported returns the exported declarations of the package in dir for all
// systems, sorted, without comments and bodies.
func exported(t *testing.T, dir string) (decls []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.FileExports(file)
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				f.Body = nil
				if f.Recv != nil && !receiverExported(f.Recv.List[0].Type) {
					continue
				}
			}
			for _, one := range split(decl) {
				var b strings.Builder
				require.NoError(t, printer.Fprint(&b, fset, one))
				// Where blank lines are depends on the comments left out.
				decls = append(decls, strings.ReplaceAll(b.String(), "\n\n", "\n"))
			}
		}
	}
	slices.Sort(decls)
	return decls
}

// split makes a declaration of every name of a var or type group. Constants
// stay together: one may repeat the line above.
func split(decl ast.Decl) []ast.Decl {
	group, ok := decl.(*ast.GenDecl)
	if !ok || group.Tok != token.VAR && group.Tok != token.TYPE {
		return []ast.Decl{decl}
	}
	decls := make([]ast.Decl, len(group.Specs))
	for i, spec := range group.Specs {
		decls[i] = &ast.GenDecl{Tok: group.Tok, Specs: []ast.Spec{spec}}
	}
	return decls
}

func receiverExported(expr ast.Expr) bool {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiverExported(e.X)
	case *ast.IndexExpr:
		return receiverExported(e.X)
	case *ast.Ident:
		return e.IsExported()
	}
	return false
}
