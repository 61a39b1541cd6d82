package sdk_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// quickStarts runs the examples of the README as they stand there.
func (h *host) quickStarts(t *testing.T, tl tools) {
	t.Helper()
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for language, program := range map[string]struct{ file, by string }{
		"python":     {"quick.py", "python"},
		"typescript": {"quick.mjs", "node"}, // which it is, too
	} {
		code := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(readme)
		if code == nil {
			t.Errorf("README has no example in %s", language)
			continue
		}
		file := filepath.Join(tl.scenarios(t), program.file)
		if err := os.WriteFile(file, code[1], 0o600); err != nil {
			t.Fatal(err)
		}
		h.run(t, tl, nil, program.by, file)
	}
}
