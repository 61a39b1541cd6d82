package house_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

func stateRules() []rule {
	return []rule{
		{"init functions", initBreaches, map[string]string{
			"a.go":      "package a\nfunc init() {} // breach\nfunc (t T) init() {}\ntype T struct{}",
			"a_test.go": "package a\nfunc init() {} // breach",
		}},
		{"package variables", variableBreaches, map[string]string{"a/a.go": `package a

import (
	_ "embed"
	"errors"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
)

var _ error = T{}
var ErrGone = errors.New("gone")
var name = regexp.MustCompile("x")
//go:embed a.txt
var text string
var table = []string{"x"}
var limits = map[string]int{"x": 1}
var (
	version = "dev"
	clock   = now
)

var count int // breach
var mu sync.Mutex // breach
var hits = atomic.Int64{} // breach
var cache = map[string]int{} // breach
var made = make(chan int) // breach
var client = &http.Client{} // breach
var started = now() // breach
var assigned = 1 // breach
var element = []int{1} // breach
var bumped = 1 // breach
var deleted = map[int]int{1: 1} // breach
var lent = T{} // breach
var field = T{} // breach
var swapped = now // breach
var Exported = 1 // breach

func f() {
	assigned = 2
	element[0] = 2
	bumped++
	delete(deleted, 1)
	g(&lent)
	field.x.y = 1
	table := []string{}
	table[0] = "y"
	version := "local"
	version = "other"
}
`, "a/a_test.go": "package a\nfunc g() { swapped = then }", "b/b.go": `package b
import "bulkhead/a"
func h() { a.Exported = 2 }
`}},
	}
}

func initBreaches(t *tree) (bs []breach) {
	for _, f := range t.gofiles(nil) {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
				bs = append(bs, t.breach(d.Pos(), "init", "no init functions: wire it in cmd"))
			}
		}
	}
	return bs
}

// variableBreaches lets a package have error sentinels, compiled patterns,
// embedded files and tables, none of which anything changes.
func variableBreaches(t *tree) (bs []breach) {
	changed := t.changedNames()
	for _, f := range t.gofiles(product) {
		for _, d := range f.ast.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok || group.Tok != token.VAR {
				continue
			}
			for _, s := range group.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					switch why := f.mutable(group, spec, i); {
					case name.Name == "_":
					case why != "":
						bs = append(bs, t.breach(name.Pos(), name.Name, "package variable %s %s", name.Name, why))
					case changed[f.dir()+"."+name.Name]:
						bs = append(bs, t.breach(name.Pos(), name.Name, "package variable %s is changed", name.Name))
					}
				}
			}
		}
	}
	return bs
}

// mutable says why the i-th variable of spec cannot be a constant in all but
// name, "" if it can.
func (f *file) mutable(group *ast.GenDecl, spec *ast.ValueSpec, i int) string {
	if i >= len(spec.Values) {
		for _, doc := range []*ast.CommentGroup{group.Doc, spec.Doc} {
			if doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed") }) {
				return ""
			}
		}
		return "has no value: only what is changed later needs none"
	}
	if name := spec.Names[i].Name; strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err") {
		return "" // a sentinel
	}
	switch v := spec.Values[i].(type) {
	case *ast.CompositeLit:
		if _, ok := v.Type.(*ast.MapType); ok && len(v.Elts) == 0 {
			return "is an empty map: only what is changed later needs none"
		}
		if sel, ok := v.Type.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && strings.HasPrefix(f.imported(pkg.Name), "sync") {
				return "is there to be changed"
			}
		}
	case *ast.UnaryExpr:
		if v.Op == token.AND {
			return "is a pointer, through which it is changed"
		}
	case *ast.CallExpr:
		if !f.constantCall(v) {
			return "is the result of a call: make it in cmd"
		}
	}
	return ""
}

// constantCall recognises calls whose result nothing can change.
func (f *file) constantCall(call *ast.CallExpr) bool {
	if _, ok := call.Fun.(*ast.ArrayType); ok {
		return true // []byte("…")
	}
	name := f.callee(call)
	_, last, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ".")
	return strings.HasPrefix(last, "Must") ||
		slices.Contains([]string{"strings.Fields", "strings.Repeat", "strings.NewReplacer"}, name)
}

// changedNames returns the package-level names that something assigns to, in
// whole or in part, or takes the address of, as "dir.Name". A local variable
// hides the name for the rest of its function.
func (t *tree) changedNames() map[string]bool {
	changed := map[string]bool{}
	for _, f := range t.gofiles(nil) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			local := localNames(fn)
			mark := func(e ast.Expr) {
				if name := f.target(e, local); name != "" {
					changed[name] = true
				}
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for _, e := range n.Lhs {
						mark(e)
					}
				case *ast.IncDecStmt:
					mark(n.X)
				case *ast.UnaryExpr:
					if n.Op == token.AND {
						mark(n.X)
					}
				case *ast.CallExpr:
					if name := f.callee(n); slices.Contains([]string{".delete", ".clear", ".copy", "maps.Copy"}, name) && len(n.Args) > 0 {
						mark(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return changed
}

// target returns the package-level name that e is, or is a part of.
func (f *file) target(e ast.Expr, local map[string]bool) string {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok && !local[id.Name] {
				if dir, ours := strings.CutPrefix(f.imported(id.Name), module+"/"); ours {
					return dir + "." + x.Sel.Name
				}
			}
			e = x.X
		case *ast.Ident:
			if local[x.Name] {
				return ""
			}
			return f.dir() + "." + x.Name
		default:
			return ""
		}
	}
}

// localNames returns every name that fn declares somewhere.
func localNames(fn *ast.FuncDecl) map[string]bool {
	local := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					if id, ok := e.(*ast.Ident); ok {
						local[id.Name] = true
					}
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					local[id.Name] = true
				}
			}
		case *ast.Field:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		}
		return true
	})
	return local
}
