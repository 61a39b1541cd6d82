package house_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// testRules are about code that only serves tests.
func testRules() []rule {
	return []rule{
		{"sleep", sleepBreaches, map[string]string{
			"a/a_test.go":         "package a\nimport \"time\"\nfunc f() {\n\ttime.Sleep(1) // breach\n\tclock.Sleep(1)\n}",
			"a/b_test.go":         "package a\nimport \"a/time\"\nfunc f() { time.Sleep(1) }",
			"test/harness/h.go":   "package harness\nimport \"time\"\nfunc f() { time.Sleep(1) } // breach",
			"pool/pooltest/pt.go": "package pooltest\nimport \"time\"\nvar nap = time.Sleep // breach",
			"pool/pool.go":        "package pool\nimport \"time\"\nfunc f() { time.Sleep(1) }",
		}},
		{"wall clock", wallClockBreaches, map[string]string{"a/a_test.go": `package a
import "time"
func f() {
	start := time.Now()
	if time.Since(start) > time.Second { // breach
	}
	took := time.Since(start)
	if took < 5 { // breach
	}
	ms := time.Since(start).Milliseconds()
	ok := ms <= 50 // breach
	if n := count(); n > 3 {
	}
	t.Log(took)
}
func g() {
	if took < 5 {
	}
	took = time.Now().Sub(start)
	for took < 7 { // breach
	}
}
`, "test/bench/b_test.go": "package bench\nimport \"time\"\nfunc f() bool { return time.Since(start) > 5 }"}},
		{"skips", skipBreaches, map[string]string{"a/a_test.go": `package a
func f() {
	t.Skip("no root")
	t.Skipf("no %s", tool)
	t.Skip(err)
	t.Skip() // breach
	t.SkipNow() // breach
	t.Skip("") // breach
}
`}},
	}
}

func sleepBreaches(t *tree) (bs []breach) {
	for _, f := range t.gofiles((*file).isSupport) {
		inspect(f, func(n ast.Node) {
			if isTime(f, n, "Sleep") {
				bs = append(bs, t.breach(n.Pos(), "", "wait for an event, or under testing/synctest, instead of sleeping"))
			}
		})
	}
	return bs
}

// isTime reports whether n is one of the given names of package time.
func isTime(f *file, n ast.Node, names ...string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok || !slices.Contains(names, sel.Sel.Name) {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && f.imported(pkg.Name) == "time"
}

// wallClockBreaches finds comparisons with how long something took. It follows
// a measured time through one assignment, which is how such tests look.
func wallClockBreaches(t *tree) (bs []breach) {
	keep := func(f *file) bool { return f.isSupport() && !strings.HasPrefix(f.path, "test/bench/") }
	for _, f := range t.gofiles(keep) {
		for _, d := range f.ast.Decls {
			elapsed := map[string]bool{}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for i, e := range n.Lhs {
						id, ok := e.(*ast.Ident)
						if ok && len(n.Rhs) == len(n.Lhs) && !isComparison(n.Rhs[i]) && f.measures(n.Rhs[i], elapsed) {
							elapsed[id.Name] = true
						}
					}
				case *ast.BinaryExpr:
					if isComparison(n) && (f.measures(n.X, elapsed) || f.measures(n.Y, elapsed)) {
						bs = append(bs, t.breach(n.Pos(), "", "a test must not depend on how long something takes: test/bench measures"))
					}
				}
				return true
			})
		}
	}
	return bs
}

func isComparison(e ast.Expr) bool {
	b, ok := e.(*ast.BinaryExpr)
	return ok && slices.Contains([]token.Token{token.LSS, token.LEQ, token.GTR, token.GEQ}, b.Op)
}

// measures reports whether e has the time since something in it.
func (f *file) measures(e ast.Expr, elapsed map[string]bool) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isTime(f, n.Fun, "Since") {
				found = true
			}
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sub" {
				if now, ok := sel.X.(*ast.CallExpr); ok && isTime(f, now.Fun, "Now") {
					found = true
				}
			}
		case *ast.Ident:
			found = found || elapsed[n.Name]
		}
		return !found
	})
	return found
}

func skipBreaches(t *tree) (bs []breach) {
	for _, f := range t.gofiles((*file).isSupport) {
		inspect(f, func(n ast.Node) {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return
			}
			if len(call.Args) == 0 || isEmptyString(call.Args[0]) {
				bs = append(bs, t.breach(call.Pos(), "", "a skip says what is missing"))
			}
		})
	}
	return bs
}

func isEmptyString(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && (lit.Value == `""` || lit.Value == "``")
}
