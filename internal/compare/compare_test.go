package compare_test

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/internal/compare"
)

const (
	folder = 0o040755
	file   = 0o100644
)

// tree makes a walk of lines "path mode size".
func tree(all ...compare.Entry) iter.Seq2[compare.Entry, error] {
	return func(yield func(compare.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func said(t *testing.T, changes iter.Seq2[compare.Change, error]) string {
	t.Helper()
	var all []string
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(c.Kind)+" "+c.Path)
	}
	return strings.Join(all, ", ")
}

func TestTrees(t *testing.T) {
	root := compare.Entry{Path: "/", Mode: folder}
	f := func(path string, size int64) compare.Entry { return compare.Entry{Path: path, Mode: file, Size: size} }
	d := func(path string, changed int64) compare.Entry {
		return compare.Entry{Path: path, Mode: folder, Changed: changed, Size: changed}
	}
	for _, tt := range []struct {
		name          string
		before, after []compare.Entry
		want          string
	}{
		{"nothing", nil, nil, ""},
		{"the same", []compare.Entry{root, f("/a", 1)}, []compare.Entry{root, f("/a", 1)}, ""},
		{"all new", nil, []compare.Entry{root, f("/a", 1)}, "added /, added /a"},
		{"all gone", []compare.Entry{root, f("/a", 1)}, nil, "removed /, removed /a"},
		{"some of each", []compare.Entry{root, f("/a", 1), f("/b", 1), f("/d", 1)}, []compare.Entry{root, f("/b", 2), f("/c", 1), f("/d", 1)},
			"removed /a, changed /b, added /c"},
		{"a folder is not what is in it", []compare.Entry{d("/a", 1)}, []compare.Entry{d("/a", 2), f("/a/b", 1)}, "added /a/b"},
		{"a folder becomes a file", []compare.Entry{d("/a", 1), f("/a/b", 1)}, []compare.Entry{f("/a", 1)}, "changed /a, removed /a/b"},
		{"a folder before what has a longer name", []compare.Entry{d("/a", 1), f("/a/x", 1), f("/a-b", 1), f("/a.b", 1)},
			[]compare.Entry{d("/a", 1), f("/a/x", 1), f("/a-b", 1), f("/a.b", 2)}, "changed /a.b"},
		{"a touched file", []compare.Entry{{Path: "/a", Mode: file, Changed: 1}}, []compare.Entry{{Path: "/a", Mode: file, Changed: 2}}, "changed /a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := said(t, compare.Trees(tree(tt.before...), tree(tt.after...))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorEndsIt(t *testing.T) {
	broken := func(yield func(compare.Entry, error) bool) { yield(compare.Entry{}, errors.New("cut off")) }
	for _, changes := range []iter.Seq2[compare.Change, error]{
		compare.Trees(broken, tree(compare.Entry{Path: "/"})), compare.Trees(tree(compare.Entry{Path: "/"}), broken),
	} {
		n := 0
		for _, err := range changes {
			if n++; err == nil || n > 1 {
				t.Errorf("%d: %v", n, err)
			}
		}
		if n == 0 {
			t.Error("there is no error")
		}
	}
}

// The order is that in which a walk of package filepath visits files.
func TestOrderOfAWalk(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a/x", "a-b/y", "a.b", "a0", "A/z", "ä/b", "a/b/c", "a/b-c", "a b"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var walked []compare.Entry
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		walked = append(walked, compare.Entry{Path: path, Mode: folder})
		return err
	})
	for i := range walked {
		without := slices.Delete(slices.Clone(walked), i, i+1)
		if got, want := said(t, compare.Trees(tree(walked...), tree(without...))), "removed "+walked[i].Path; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
