package works_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/sandbox/recipe/works"

	"github.com/google/go-cmp/cmp"
)

// member is a file in an archive: a folder if its name ends with a slash, a link
// if it has a target.
type member struct {
	name, content, target string
	mode                  int64
}

// pack writes an archive as SDKs do, owned by a user that there is not.
func pack(t *testing.T, path string, zip bool, members []member) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.content)), Linkname: m.target, Uid: 4711, Gid: 4711, Typeflag: tar.TypeReg}
		switch {
		case m.target != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if zip {
		var z bytes.Buffer
		g := gzip.NewWriter(&z)
		if _, err := g.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		b = z
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// list says what is below a folder: mode, owner, path, and content or target.
func list(t *testing.T, root string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %d %s", fi.Mode(), fi.Sys().(*syscall.Stat_t).Uid, strings.TrimPrefix(path, root+"/"))
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + to
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(b)
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// needDaemon makes sure that the user who is given files has the number 1.
func needDaemon(t *testing.T) {
	t.Helper()
	if u, err := user.Lookup("daemon"); err != nil || u.Uid != "1" || u.Gid != "1" {
		t.Skip("this host has no user daemon with the number 1")
	}
}

func TestUnpack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	needDaemon(t)
	members := []member{
		{name: "app/", mode: 0o755}, {name: "app/run", content: "run", mode: 0o755}, {name: "app/.hidden", content: "h", mode: 0o644},
		{name: "app/sub/", mode: 0o755}, {name: "app/sub/new", content: "n", mode: 0o640}, {name: "app/link", target: "sub/new", mode: 0o777},
		{name: "a -b.txt", content: "ab", mode: 0o644},
	}
	whole := []string{
		"-rw-r--r-- 1 %s/.hidden h", "Lrwxrwxrwx 1 %s/link -> sub/new", "-rwxr-xr-x 1 %s/run run", "drwxr-xr-x 1 %s/sub", "-rw-r----- 1 %s/sub/new n",
	}
	in := func(dir string, lines ...string) (all []string) {
		for _, l := range lines {
			all = append(all, strings.Replace(l, "%s", dir, 1))
		}
		return all
	}
	for _, tt := range []struct {
		name                    string
		dest, mode, src, within string
		want                    []string // nil means that it fails
	}{
		{"a folder to one that is not there", "x/y", "", "app", "", append([]string{"drwxr-xr-x 0 x", "drwxr-xr-x 1 x/y"}, in("x/y", whole...)...)},
		{"a folder into one that is", "there", "", "app", "", []string{
			"drwx------ 0 there", "-rw-r--r-- 1 there/.hidden h", "Lrwxrwxrwx 1 there/link -> sub/new", "-rw------- 0 there/old old",
			"-rwxr-xr-x 1 there/run run", "drwxr-xr-x 1 there/sub", "-rw-r----- 1 there/sub/new n", "-rw------- 0 there/sub/older older"}},
		{"a file to a name", "b.txt", "", "a -b.txt", "", []string{"-rw-r--r-- 1 b.txt ab"}},
		{"a file into a folder that is not there", "d/", "0600", "a -b.txt", "", []string{"drwxr-xr-x 0 d", "-rw------- 1 d/a -b.txt ab"}},
		{"a link as a link", "l", "0600", "app/link", "", []string{"Lrwxrwxrwx 1 l -> sub/new"}},
		{"all that came", "z", "0700", ".", "within", append([]string{"drwxr-xr-x 1 z", "-rwx------ 1 z/a -b.txt ab", "drwx------ 1 z/app"},
			in("z/app", "-rwx------ 1 %s/.hidden h", "Lrwxrwxrwx 1 %s/link -> sub/new", "-rwx------ 1 %s/run run", "drwx------ 1 %s/sub", "-rwx------ 1 %s/sub/new n")...)},
		{"what did not come", "n", "", "none", "", nil},
	} {
		for _, zip := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, ", compressed ", zip), func(t *testing.T) {
				root, archive, form := t.TempDir(), filepath.Join(t.TempDir(), "archive"), ""
				if zip {
					form = "z"
				}
				pack(t, archive, zip, members)
				old := []string{"there", "there/sub"}
				if !strings.HasPrefix(tt.dest, "there") {
					old = nil
				}
				for i, dir := range old {
					if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
						t.Fatal(err)
					}
					name := []string{"old", "older"}[i]
					if err := os.WriteFile(filepath.Join(root, dir, name), []byte(name), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				dest := root + "/" + tt.dest
				cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "umask 022\n"+works.Unpack, "sh", archive, dest, "daemon:", tt.mode, tt.src, tt.within, form)
				out, err := cmd.CombinedOutput()
				if (err == nil) != (tt.want != nil) {
					t.Fatalf("%v: %s", err, out)
				}
				if _, err := os.Stat(archive); err == nil {
					t.Error("the archive is still there")
				}
				got, want := list(t, root), slices.Clone(tt.want)
				slices.Sort(got)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestMakeFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving folders away needs root")
	}
	needDaemon(t)
	root := t.TempDir()
	run := func(dir string) error {
		return exec.CommandContext(t.Context(), "/bin/sh", "-c", "umask 022\n"+works.MakeFolder, "sh", root+"/"+dir, "daemon:").Run()
	}
	if err := os.Mkdir(root+"/old", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, ok := range map[string]bool{"old": true, "new/deep": true, "file": false} {
		if err := run(dir); (err == nil) != ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
	want := []string{"-rw------- 0 file ", "drwxr-xr-x 0 new", "drwxr-xr-x 1 new/deep", "drwx------ 0 old"}
	if diff := cmp.Diff(want, list(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
