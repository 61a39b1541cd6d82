package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/image/layer"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tarball is an archive of entries.
func tarball(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		content := h.Uname // carries it
		h.Uname = ""
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name, content string) tar.Header { return tar.Header{Name: name, Uname: content} }
func folder(name string) tar.Header        { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}
}
func hardlink(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}
}

var wide = layer.Limits{Bytes: 1 << 20, Entries: 1000}

// lay lays archives on a new tree, which lies beside a file that nobody may
// touch.
func lay(t *testing.T, l layer.Limits, archives ...[]byte) (dir string, err error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of other owners need root")
	}
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "host"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(base, "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := layer.Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, a := range archives {
		if err = tree.Apply(t.Context(), bytes.NewReader(a)); err != nil {
			break
		}
	}
	if diff := cmp.Diff([]string{"host: host"}, list(t, outside)); diff != "" {
		t.Errorf("files outside of the tree (-want +got):\n%s", diff)
	}
	return dir, err
}

// list returns every file below dir with its content, every link with its
// target, every empty folder.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			all = append(all, name+" -> "+target)
			return err
		case d.Type().IsRegular():
			content, err := os.ReadFile(p)
			all = append(all, name+": "+string(content))
			return err
		case d.IsDir():
			entries, err := os.ReadDir(p)
			if len(entries) == 0 {
				all = append(all, name+"/")
			}
			return err
		}
		all = append(all, fmt.Sprintf("%s: %v", name, d.Type()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestApply(t *testing.T) {
	one := []tar.Header{folder("a"), file("a/x", "1"), file("a/y", "1"), folder("a/b"), file("a/b/z", "1")}
	tests := map[string]struct {
		layers [][]tar.Header
		want   []string
	}{
		"a later layer wins":               {[][]tar.Header{one, {file("a/x", "2")}}, []string{"a/b/z: 1", "a/x: 2", "a/y: 1"}},
		"names may begin with ./ and /":    {[][]tar.Header{{folder("./"), file("./x", "1"), file("/y", "1")}}, []string{"x: 1", "y: 1"}},
		"folders are made where they lack": {[][]tar.Header{{file("a/b/c", "1")}}, []string{"a/b/c: 1"}},
		"a whiteout removes a file":        {[][]tar.Header{one, {file("a/.wh.x", "")}}, []string{"a/b/z: 1", "a/y: 1"}},
		"a whiteout removes a folder":      {[][]tar.Header{one, {file("a/.wh.b", "")}}, []string{"a/x: 1", "a/y: 1"}},
		"a whiteout of nothing is nothing": {[][]tar.Header{one[:2], {file("b/.wh.c", ""), file(".wh.d", "")}}, []string{"a/x: 1"}},
		"a whiteout spares its own layer": {[][]tar.Header{one[:2], {file("a/x", "2"), file("a/.wh.x", "")}},
			[]string{"a/x: 2"}},
		"an opaque folder has what its layer has": {[][]tar.Header{one, {folder("a"), file("a/n", "2"), file("a/b/n", "2"), file("a/.wh..wh..opq", "")}},
			[]string{"a/b/n: 2", "a/n: 2"}},
		"an opaque folder may come first": {[][]tar.Header{one, {folder("a"), file("a/.wh..wh..opq", ""), file("a/n", "2")}}, []string{"a/n: 2"}},
		"an opaque folder keeps named folders": {[][]tar.Header{one, {folder("a/b"), file("a/.wh..wh..opq", "")}},
			[]string{"a/b/"}},
		"AUFS's own are nothing":         {[][]tar.Header{{file(".wh..wh.plnk", ""), file(".wh..wh.aufs", "x")}}, nil},
		"a folder replaces a file":       {[][]tar.Header{{file("a", "1")}, {folder("a"), file("a/x", "2")}}, []string{"a/x: 2"}},
		"a file replaces a folder":       {[][]tar.Header{one, {file("a", "2")}}, []string{"a: 2"}},
		"a file replaces a link":         {[][]tar.Header{{file("x", "1"), symlink("a", "x")}, {file("a", "2")}}, []string{"a: 2", "x: 1"}},
		"a folder replaces a link":       {[][]tar.Header{{folder("d"), symlink("a", "d")}, {folder("a"), file("a/x", "2")}}, []string{"a/x: 2", "d/"}},
		"names lead over relative links": {[][]tar.Header{{folder("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/x", "2")}}, []string{"lib -> usr/lib", "usr/lib/x: 2"}},
		"names lead over absolute links": {[][]tar.Header{{folder("run"), symlink("var/run", "/run")}, {file("var/run/x", "2")}}, []string{"run/x: 2", "var/run -> /run"}},
		"a link led elsewhere before":    {[][]tar.Header{{symlink("l", "a"), file("l/x", "1"), symlink("l", "b"), file("l/y", "1")}}, []string{"a/x: 1", "b/y: 1", "l -> b"}},
		"a folder was a link before":     {[][]tar.Header{{folder("a"), file("a/x", "1"), symlink("a", "b"), file("a/x", "2")}}, []string{"a -> b", "b/x: 2"}},
		"hard links":                     {[][]tar.Header{{file("x", "1"), hardlink("y", "x"), hardlink("d/z", "/x")}}, []string{"d/z: 1", "x: 1", "y: 1"}},
		"hard links lead over links":     {[][]tar.Header{{file("d/x", "1"), symlink("l", "/d"), hardlink("y", "l/x")}}, []string{"d/x: 1", "l -> /d", "y: 1"}},
		"a hard link to a link is one":   {[][]tar.Header{{symlink("l", "../outside/host"), hardlink("m", "l")}}, []string{"l -> ../outside/host", "m -> ../outside/host"}},
		"devices, FIFOs and unknown types are left out": {[][]tar.Header{{
			{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}, {Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8},
			{Name: "fifo", Typeflag: tar.TypeFifo}, {Name: "what", Typeflag: 'V'}, file("x", "1")}}, []string{"x: 1"}},

		"a link out is followed inside":           {[][]tar.Header{{symlink("l", "../outside"), file("l/host", "2")}}, []string{"l -> ../outside", "outside/host: 2"}},
		"an absolute link out is followed inside": {[][]tar.Header{{symlink("l", "/../../etc"), file("l/passwd", "2")}}, []string{"etc/passwd: 2", "l -> /../../etc"}},
		"a file does not go through its own link": {[][]tar.Header{{symlink("x", "../outside/host"), file("x", "2")}}, []string{"x: 2"}},
		"a whiteout through a link stays inside":  {[][]tar.Header{{symlink("l", "../outside"), file("l/.wh.host", "")}}, []string{"l -> ../outside"}},
		"an opaque mark through a link stays inside": {[][]tar.Header{{symlink("l", "../outside")}, {file("l/.wh..wh..opq", "")}},
			[]string{"l -> ../outside"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var archives [][]byte
			for _, l := range tt.layers {
				archives = append(archives, tarball(t, l...))
			}
			dir, err := lay(t, wide, archives...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, list(t, dir)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	deep := strings.Repeat("d/", 100)
	tests := map[string]struct {
		layer []tar.Header
		kind  fault.Kind
		want  string
	}{
		"a name that leads out":           {[]tar.Header{file("../outside/host", "2")}, fault.Invalid, "leads out of the image"},
		"one in the middle":               {[]tar.Header{file("a/../../outside/host", "2")}, fault.Invalid, "leads out of the image"},
		"a hard link that leads out":      {[]tar.Header{hardlink("x", "../outside/host")}, fault.Invalid, "leads out of the image"},
		"a hard link over a link":         {[]tar.Header{symlink("l", "../outside"), hardlink("x", "l/host")}, fault.Invalid, "which is no file of the image"},
		"an absolute one":                 {[]tar.Header{hardlink("x", "/etc/passwd")}, fault.Invalid, "which is no file of the image"},
		"a hard link to itself":           {[]tar.Header{hardlink("x", "x")}, fault.Invalid, "which is no file of the image"},
		"a hard link to a folder":         {[]tar.Header{folder("d"), hardlink("x", "d")}, fault.Invalid, "which is no file of the image"},
		"a cycle of links":                {[]tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/x", "2")}, fault.Invalid, "more than 40 links"},
		"a link to itself":                {[]tar.Header{symlink("a", "a/b"), file("a/x", "2")}, fault.Invalid, "more than 40 links"},
		"a file as a folder":              {[]tar.Header{file("a", "1"), file("a/x", "2")}, fault.Invalid, "is no folder"},
		"a root that is a file":           {[]tar.Header{file(".", "1")}, fault.Invalid, "the root is no folder"},
		"a whiteout of the root":          {[]tar.Header{file(".wh.", "")}, fault.Invalid, "takes away nothing"},
		"a whiteout of what is above":     {[]tar.Header{file("a/.wh...", "")}, fault.Invalid, "takes away nothing"},
		"an empty link":                   {[]tar.Header{symlink("a", "")}, fault.Invalid, "not a target"},
		"an owner that is none":           {[]tar.Header{{Name: "a", Uid: 1<<32 - 1}}, fault.Invalid, "is none"},
		"a negative owner":                {[]tar.Header{{Name: "a", Gid: -1}}, fault.Invalid, "is none"},
		"a long name":                     {[]tar.Header{folder(strings.Repeat("a/", 2050))}, fault.Invalid, "not a name of a file"},
		"a part that no file system has":  {[]tar.Header{file(strings.Repeat("a", 300), "")}, fault.Invalid, "layer is broken"},
		"folders too deep":                {[]tar.Header{file(strings.Repeat("a/", 300)+"x", "")}, fault.Invalid, "path is too long"},
		"folders too deep through a link": {[]tar.Header{folder(deep), symlink("l", deep), file("l/"+deep+"d/x", "")}, fault.Invalid, "path is too long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := lay(t, wide, tarball(t, tt.layer...))
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v of kind %s, want %q of kind %s", err, fault.KindOf(err), tt.want, tt.kind)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	big := file("big", strings.Repeat("x", 400<<10))
	sparse := tarball(t, file("hole", ""))
	tests := map[string]struct {
		limits layer.Limits
		layers [][]byte
		want   string
	}{
		"bytes of one layer":      {layer.Limits{Bytes: 100 << 10, Entries: 10}, [][]byte{tarball(t, big)}, "image has more than 0 MiB"},
		"bytes of all layers":     {layer.Limits{Bytes: 1 << 20, Entries: 10}, [][]byte{tarball(t, big), tarball(t, big), tarball(t, big)}, "image has more than 1 MiB"},
		"bytes after the archive": {layer.Limits{Bytes: 1 << 20, Entries: 10}, [][]byte{append(tarball(t, file("x", "")), make([]byte, 2<<20)...)}, "image has more than 1 MiB"},
		"entries":                 {layer.Limits{Bytes: 1 << 20, Entries: 2}, [][]byte{tarball(t, file("a", ""), file("b", "")), tarball(t, file("a", ""))}, "more than 2 files"},
		"entries that are left out": {layer.Limits{Bytes: 1 << 20, Entries: 2}, [][]byte{tarball(t, tar.Header{Name: "f", Typeflag: tar.TypeFifo},
			tar.Header{Name: "f", Typeflag: tar.TypeFifo}, tar.Header{Name: "f", Typeflag: tar.TypeFifo})}, "more than 2 files"},
		"a hole": {layer.Limits{Bytes: 1 << 20, Entries: 10}, [][]byte{holed(sparse)}, "image has more than 1 MiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := lay(t, tt.limits, tt.layers...)
			if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v of kind %s, want %q", err, fault.KindOf(err), tt.want)
			}
		})
	}
}

// holed turns the first entry of an archive, which is empty, into a file of one
// hole of 1 TiB, as old GNU tar writes them (tar.h, struct oldgnu_header).
func holed(archive []byte) []byte {
	b := bytes.Clone(archive)
	copy(b[124:136], "00000000000\x00")                                  // size in the archive
	b[156] = tar.TypeGNUSparse                                           // typeflag
	copy(b[257:265], "ustar  \x00")                                      // magic
	copy(b[386:410], "00000000000\x0000000000000\x00")                   // the first piece: nothing at 0
	copy(b[483:495], "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00") // real size, 1 TiB in base 256
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestAttributes(t *testing.T) {
	at := time.Unix(1_600_000_000, 0)
	// VFS_CAP_REVISION_2 with cap_net_bind_service, effective.
	const bind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir, err := lay(t, wide, tarball(t,
		tar.Header{Name: "su", Mode: 0o4755, Uid: 7, Gid: 8, ModTime: at},
		tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 8},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "su", Uid: 9, Gid: 9},
		tar.Header{Name: "old", ModTime: time.Unix(-1<<40, 0), Format: tar.FormatGNU},
		tar.Header{Name: "ping", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": bind, "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.x": "y",
		}},
	))
	if err != nil {
		t.Fatal(err)
	}
	stat := func(name string) (fs.FileInfo, *syscall.Stat_t) {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fi, fi.Sys().(*syscall.Stat_t)
	}
	if fi, st := stat("su"); fi.Mode() != 0o755|fs.ModeSetuid || st.Uid != 7 || st.Gid != 8 || !fi.ModTime().Equal(at) {
		t.Errorf("su is %v, %d:%d, %v", fi.Mode(), st.Uid, st.Gid, fi.ModTime())
	}
	if fi, st := stat("tmp"); fi.Mode() != 0o777|fs.ModeSticky|fs.ModeDir || st.Uid != 7 {
		t.Errorf("tmp is %v of %d", fi.Mode(), st.Uid)
	}
	if _, st := stat("l"); st.Uid != 9 {
		t.Errorf("the link is of %d", st.Uid)
	}
	if fi, _ := stat("old"); fi.ModTime().Unix() != 0 {
		t.Errorf("the old file is of %v", fi.ModTime())
	}
	names := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(dir, "ping"), names)
	if got := string(names[:max(n, 0)]); err != nil || got != "security.capability\x00" {
		t.Errorf("extended attributes of ping: %q, %v", got, err)
	}
}

func TestApplyEnds(t *testing.T) {
	t.Run("with the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tree, err := layer.Open(t.TempDir(), wide)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if err := tree.Apply(ctx, bytes.NewReader(tarball(t, file("a", "1")))); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("where the archive is cut", func(t *testing.T) {
		_, err := lay(t, wide, tarball(t, file("a", strings.Repeat("x", 2000)))[:1024])
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("error %v of kind %s", err, fault.KindOf(err))
		}
	})
}

// FuzzApply looks for archives that reach what is beside the tree.
func FuzzApply(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("files of other owners need root")
	}
	f.Add([]byte("not an archive"))
	for _, entries := range [][]tar.Header{
		{symlink("l", "../outside"), file("l/host", "2"), file("l/.wh.host", ""), hardlink("m", "l/host")},
		{folder("a"), file("a/x", "1"), file("a/.wh..wh..opq", ""), symlink("b", "/a"), folder("b")},
	} {
		f.Add(tarball(f, entries...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		_, err := lay(t, wide, archive)
		if err != nil && fault.KindOf(err) == fault.Internal && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("error without a kind: %v", err)
		}
	})
}
