package console_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dist is what the daemon embeds.
const dist = "../../../internal/server/page/dist"

// Text that a guest or a client chose is text, in every field, in both sizes of
// window.
func TestHostileTextStaysText(t *testing.T) {
	prepare(t)
	browse(t, "hostile.mjs")
}

// Many of everything, long and foreign names, light and dark, a phone and a
// keyboard alone are what the page is made for; a daemon, a key or a sandbox that
// goes is told; nothing is lost by looking elsewhere.
func TestEveryViewHolds(t *testing.T) {
	prepare(t)
	browse(t, "views.mjs")
}

// What is committed is what the sources build to, and they pass their own tests.
func TestPageIsBuiltFromItsSources(t *testing.T) {
	prepare(t)
	before := built(t)
	for _, script := range []string{"check", "test", "build"} {
		cmd := exec.CommandContext(t.Context(), "npm", "run", "--silent", script)
		cmd.Dir = web
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm run %s: %v\n%s", script, err, out)
		}
	}
	if diff := cmp.Diff(before, built(t)); diff != "" {
		t.Errorf("run make generate and commit what it writes")
	}
}

// Pictures in the documents are small enough to be looked at anywhere.
func TestPicturesAreSmall(t *testing.T) {
	const most = 200 << 10
	pictures, err := filepath.Glob("../../../docs/images/*.png")
	if err != nil || len(pictures) == 0 {
		t.Fatalf("no pictures: run make screenshots; %v", err)
	}
	for _, p := range pictures {
		if fi, err := os.Stat(p); err != nil || fi.Size() > most {
			t.Errorf("%s has %d bytes, of %d: %v", p, fi.Size(), most, err)
		}
	}
}

// built is what is embedded, by name.
func built(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dist), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dist, name))
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// An operator signs in, makes a sandbox, works in it, breaks it, sees that it is
// broken, rolls it back, answers for a connection that waits, and reads what
// happened; and one who may only look is offered nothing else.
func TestOperatorUndoes(t *testing.T) {
	prepare(t)
	h, url := serve(t)
	browse(t, "story.mjs", "BASE="+url, "ADMIN="+newKey(t, h, "console", "admin"), "READER="+newKey(t, h, "reader", "read"))
}
