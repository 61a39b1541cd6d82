package house_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rule is something that holds for the whole tree.
type rule struct {
	// name is what a failure and an exception call it.
	name string
	find func(*tree) []breach
	// broken is a tree, by path, that breaks the rule in exactly the lines
	// that contain the marker.
	broken map[string]string
}

// marker ends the lines of a broken tree that a rule has to report.
const marker = "// breach"

// rules returns every rule. They stand in the file of their subject.
func rules() []rule {
	return slices.Concat(layerRules(), commentRules(), sizeRules(), shapeRules(), stateRules(), testRules(), documentRules())
}

// exception lets one breach of a rule stand.
type exception struct {
	rule string
	// where is the path, and the subject where the rule has one:
	// "internal/pool/pool.go New".
	where string
	why   string
}

func exceptions() []exception {
	return []exception{
		{rule: "interface size", where: "internal/vmm/vmm.go", why: "a machine's life is one contract: half of it is of no use to anybody"},
	}
}

func TestTree(t *testing.T) {
	tree := realTree(t)
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			found := r.find(tree)
			sortBreaches(found)
			for _, b := range unexcused(r.name, found, exceptions()) {
				t.Error(b)
			}
		})
	}
}

// unexcused returns what of found no exception covers, and the exceptions
// that cover nothing.
func unexcused(rule string, found []breach, known []exception) []string {
	used := map[exception]bool{}
	var open []string
	for _, b := range found {
		i := slices.IndexFunc(known, func(e exception) bool {
			return e.rule == rule && (e.where == b.path || e.where == b.path+" "+b.subject)
		})
		if i < 0 || known[i].why == "" {
			open = append(open, b.String())
			continue
		}
		used[known[i]] = true
	}
	for _, e := range known {
		if e.rule == rule && !used[e] {
			open = append(open, fmt.Sprintf("exception for %s covers nothing: remove it", e.where))
		}
	}
	return open
}

func TestExceptions(t *testing.T) {
	found := []breach{{"a.go", 1, "F", "too long"}, {"b.go", 2, "G", "too long"}}
	tests := []struct {
		name  string
		known []exception
		want  []string
	}{
		{"none", nil, []string{"a.go:1: too long", "b.go:2: too long"}},
		{"by file and by name", []exception{{"size", "a.go", "table"}, {"size", "b.go G", "table"}}, nil},
		{"without a reason", []exception{{"size", "a.go", ""}, {"size", "b.go", "table"}},
			[]string{"a.go:1: too long", "exception for a.go covers nothing: remove it"}},
		{"of another rule", []exception{{"doc", "a.go", "table"}}, []string{"a.go:1: too long", "b.go:2: too long"}},
		{"stale", []exception{{"size", "a.go", "table"}, {"size", "b.go", "table"}, {"size", "c.go", "table"}},
			[]string{"exception for c.go covers nothing: remove it"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, unexcused("size", found, tt.known)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRulesCanFail runs each rule over the tree that breaks it.
func TestRulesCanFail(t *testing.T) {
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			tree, err := newTree(r.broken)
			if err != nil {
				t.Fatal(err)
			}
			found := r.find(tree)
			sortBreaches(found)
			if len(found) == 0 {
				t.Error("the broken tree passes")
			}
			var got []string
			for _, b := range found {
				got = append(got, fmt.Sprintf("%s:%d", b.path, b.line))
			}
			if diff := cmp.Diff(marked(tree), slices.Compact(got)); diff != "" {
				t.Errorf("breaches (-want +got):\n%s%v", diff, found)
			}
		})
	}
}

// marked returns the lines of t that contain the marker.
func marked(t *tree) []string {
	var at []string
	for _, f := range t.files {
		for i, line := range strings.Split(f.text, "\n") {
			if strings.Contains(line, marker) {
				at = append(at, fmt.Sprintf("%s:%d", f.path, i+1))
			}
		}
	}
	return at
}
