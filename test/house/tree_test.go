package house_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path that every import of this tree's own begins with.
const module = "bulkhead"

// root is the top of the tree, seen from this package.
const root = "../.."

// tree is what the rules look at.
type tree struct {
	fset  *token.FileSet
	files []*file // by path
	// pictures are the paths of what is no text.
	pictures []string
}

// file is one tracked file.
type file struct {
	// path is relative to the top, with slashes.
	path string
	text string
	// ast is nil for anything but Go.
	ast *ast.File
	// generated files are nobody's style.
	generated bool
}

// realTree reads every file that is tracked or about to be.
func realTree(t *testing.T) *tree {
	t.Helper()
	// A checkout may belong to another user than the one who tests it.
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", root,
		"ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the tree's files: %v", err)
	}
	sources := map[string]string{}
	var pictures []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, but not yet from the index
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsRune(b, 0) {
			pictures = append(pictures, name)
			continue
		}
		sources[name] = string(b)
	}
	tr, err := newTree(sources)
	if err != nil {
		t.Fatal(err)
	}
	tr.pictures = pictures
	return tr
}

// newTree parses sources, which are keyed by path.
func newTree(sources map[string]string) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f := &file{path: name, text: sources[name]}
		if path.Ext(name) == ".go" {
			parsed, err := parser.ParseFile(t.fset, name, f.text, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("parse the tree: %w", err)
			}
			f.ast, f.generated = parsed, ast.IsGenerated(parsed)
		}
		t.files = append(t.files, f)
	}
	return t, nil
}

func (f *file) dir() string { return path.Dir(f.path) }

// isTest reports whether f is compiled for tests only.
func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isSupport reports whether f only serves tests, whether or not the toolchain
// knows it.
func (f *file) isSupport() bool { return f.isTest() || isSupportDir(f.dir()) }

// isSupportDir recognises conformance suites: pooltest, vmmtest.
func isSupportDir(dir string) bool {
	return strings.HasPrefix(dir, "test/") || strings.HasSuffix(dir, "test")
}

func (f *file) lines() int { return strings.Count(strings.TrimSuffix(f.text, "\n"), "\n") + 1 }

// gofiles returns the hand-written Go files that keep accepts, nil for all.
func (t *tree) gofiles(keep func(*file) bool) []*file {
	var fs []*file
	for _, f := range t.files {
		if f.ast != nil && !f.generated && (keep == nil || keep(f)) {
			fs = append(fs, f)
		}
	}
	return fs
}

// product keeps the files that are compiled into something.
func product(f *file) bool { return !f.isTest() }

// packages groups the product's hand-written files by folder.
func (t *tree) packages() map[string][]*file {
	ps := map[string][]*file{}
	for _, f := range t.gofiles(product) {
		ps[f.dir()] = append(ps[f.dir()], f)
	}
	return ps
}

// breach is one place where a rule is broken.
type breach struct {
	path string
	line int
	// subject is the name of the thing, for exceptions.
	subject string
	text    string
}

func (b breach) String() string { return fmt.Sprintf("%s:%d: %s", b.path, b.line, b.text) }

func (t *tree) breach(pos token.Pos, subject, format string, args ...any) breach {
	p := t.fset.Position(pos)
	return breach{p.Filename, p.Line, subject, fmt.Sprintf(format, args...)}
}

func sortBreaches(bs []breach) {
	slices.SortFunc(bs, func(a, b breach) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
}

// inspect calls visit for every node of f.
func inspect(f *file, visit func(ast.Node)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if n != nil {
			visit(n)
		}
		return true
	})
}

// imported returns the path that name stands for in f, "" if it is no import.
func (f *file) imported(name string) string {
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(p) == name {
			return p
		}
	}
	return ""
}

// callee returns what call calls as "import/path.Name", or ".Name" for a
// method or a local function.
func (f *file) callee(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.SelectorExpr:
		if id, ok := fun.X.(*ast.Ident); ok {
			return f.imported(id.Name) + "." + fun.Sel.Name
		}
		return "." + fun.Sel.Name
	case *ast.Ident:
		return "." + fun.Name
	}
	return ""
}
