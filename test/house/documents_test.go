package house_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

func documentRules() []rule {
	readme := "See [design](docs/architecture.md#parts), [web](https://example.com), [here](#x).\n" +
		"Also `docs/architecture.md`.\n" +
		"Gone: [a](docs/gone.md) " + marker + "\n" +
		"Gone: docs/gone-too.md " + marker + "\n" +
		"Gone: `internal/gone` " + marker + "\n" +
		"Folders are fine: docs/ and docs/decisions/\n"
	broken := map[string]string{
		"README.md":                readme,
		"docs/architecture.md":     "[up](../README.md) [beside](decisions/0001-a.md)\n[gone](README.md) " + marker,
		"docs/decisions/0001-a.md": "a docs/architecture.md",
	}
	missing := map[string]string{"LICENSE": "", "README.md": strings.Repeat(marker+"\n", len(expected)-2)}
	promises := map[string]string{
		"docs/specification.md": "| holds | TestThat, FuzzThat |\n| broke | `TestGone` | " + marker + "\nTesting is fine\n",
		"a/a_test.go":           "package a\nfunc TestThat() {}\nfunc FuzzThat() {}\nfunc (s) TestGone() {}",
	}

	var leaky strings.Builder
	for _, s := range foreign() {
		fmt.Fprintf(&leaky, "x = %q %s\n", s, marker)
	}
	leaky.WriteString("overlay: upper/work/x is fine, and so is https://example.com/workshop\n")

	return []rule{
		{"links", linkBreaches, broken},
		{"documents", missingDocuments, missing},
		{"promised tests", promisedTestBreaches, promises},
		{"own affairs", foreignBreaches, map[string]string{"scripts/x": leaky.String()}},
	}
}

// expected are the documents that every tree of this kind has.
var expected = []string{"CHANGELOG.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/threat-model.md", "README.md", "LICENSE"}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	treePath     = regexp.MustCompile(`(?:^|[\s(\x60"])((?:cmd|docs|internal|proto|scripts|test)/[\w./-]*\w)`)
	testName     = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
)

// linkBreaches follows relative links, and paths that begin at the top.
func linkBreaches(t *tree) []breach {
	exists := map[string]bool{".": true}
	for _, f := range t.files {
		for p := f.path; p != "."; p = path.Dir(p) {
			exists[p] = true
		}
	}
	for _, p := range t.pictures {
		exists[p] = true
	}
	return t.absent(func(f *file, line string) (missing []string) {
		for _, m := range markdownLink.FindAllStringSubmatch(line, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target != "" && !strings.Contains(target, ":") && !exists[path.Join(f.dir(), target)] {
				missing = append(missing, target)
			}
		}
		for _, m := range treePath.FindAllStringSubmatch(markdownLink.ReplaceAllString(line, ""), -1) {
			if !exists[m[1]] {
				missing = append(missing, m[1])
			}
		}
		return missing
	})
}

// absent asks for each line of each document what it names that does not exist.
func (t *tree) absent(in func(f *file, line string) []string) (bs []breach) {
	for _, f := range t.files {
		if path.Ext(f.path) != ".md" {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			for _, name := range in(f, line) {
				bs = append(bs, breach{f.path, i + 1, name, name + " does not exist"})
			}
		}
	}
	return bs
}

// promisedTestBreaches finds documents that name a test which nobody wrote.
func promisedTestBreaches(t *tree) []breach {
	written := map[string]bool{}
	for _, f := range t.gofiles((*file).isSupport) {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				written[d.Name.Name] = true
			}
		}
	}
	return t.absent(func(_ *file, line string) []string {
		return slices.DeleteFunc(testName.FindAllString(line, -1), func(name string) bool { return written[name] })
	})
}

// missingDocuments wants what a newcomer looks for. A file that is not there
// has no lines, so the breach is on that of the file's number in README.md.
func missingDocuments(t *tree) (bs []breach) {
	for i, want := range expected {
		if !slices.ContainsFunc(t.files, func(f *file) bool { return f.path == want }) {
			bs = append(bs, breach{"README.md", i + 1, want, want + " does not exist"})
		}
	}
	return bs
}

// foreign returns what the project has no business to mention: where somebody
// happened to work on it, and hosts that the reader's own configuration
// names. The strings are put together here so that this file passes.
func foreign() []string {
	s := []string{"/wo" + "rk/main", "/tmp/" + "exp"}
	for name, hosts := range map[string][]string{
		"golang.org": {"proxy", "sum"}, "debian.org": {"deb", "security", "ftp"},
		"npmjs.org": {"registry"}, "pypi.org": {"files", "www"}, "docker.io": {"registry-1"},
	} {
		for _, h := range hosts {
			s = append(s, h+"."+name)
		}
	}
	slices.Sort(s)
	return s
}

func foreignBreaches(t *tree) (bs []breach) {
	var patterns []string
	for _, s := range foreign() {
		patterns = append(patterns, regexp.QuoteMeta(s))
	}
	// A path that begins there, whatever follows.
	patterns = append(patterns, `(?:^|[^\w./-])/wo`+`rk/`)
	pattern := regexp.MustCompile(strings.Join(patterns, "|"))
	for _, f := range t.files {
		// What sandboxes may talk to by default are registries, by name.
		if strings.HasPrefix(f.path, "internal/egress/policy/preset") {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			if m := pattern.FindString(line); m != "" {
				bs = append(bs, breach{f.path, i + 1, "", fmt.Sprintf("mentions %q", m)})
			}
		}
	}
	return bs
}
