package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/internal/cli/archive"

	"github.com/google/go-cmp/cmp"
)

func file(name, text string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{"BULKHEAD.text": text}}
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
}

func hardlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}
}

func device(name string, kind byte) tar.Header {
	return tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: 1, Devminor: 3}
}

// pack returns a stream of entries; the text of a file is in its header.
func pack(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		text := h.PAXRecords["BULKHEAD.text"]
		h.Size, h.PAXRecords = int64(len(text)), nil
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// place is a host's folder with something of value next to the target.
type place struct{ dir string }

func newPlace(t testing.TB) place {
	t.Helper()
	p := place{t.TempDir()}
	for name, text := range map[string]string{"home/.profile": "mine", "home/.ssh/keys": "mine", "secret": "mine"} {
		file := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// target is "x" in the home, with room for 1 MiB.
func (p place) target() archive.Target {
	return archive.Target{Dir: filepath.Join(p.dir, "home"), Name: "x", MaxBytes: 1 << 20}
}

// unpack lays stream into the home as "x".
func (p place) unpack(stream []byte) error {
	_, err := archive.Unpack(bytes.NewReader(stream), p.target())
	return err
}

// tree describes everything below dir: "d 755", "644 text", "-> target".
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		switch mode := info.Mode(); {
		case mode.IsDir():
			all[name] = fmt.Sprintf("d %o", mode.Perm())
		case mode.IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[name] = fmt.Sprintf("%o %s", mode, text)
		case mode&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			all[name] = "-> " + target
		default:
			all[name] = mode.String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outside is tree without what was laid in the one allowed place.
func (p place) outside(t testing.TB) map[string]string {
	all := tree(t, p.dir)
	for name := range all {
		if name == "home/x" || strings.HasPrefix(name, "home/x/") {
			delete(all, name)
		}
	}
	return all
}

func (p place) laid(t testing.TB) map[string]string {
	if _, err := os.Lstat(filepath.Join(p.dir, "home/x")); err != nil {
		return nil
	}
	return tree(t, filepath.Join(p.dir, "home/x"))
}

func TestUnpackOfHostileArchives(t *testing.T) {
	long := strings.Repeat("n", 300)
	deep := strings.Repeat("d/", 3000)
	for _, test := range []struct {
		name    string
		entries []tar.Header
		err     string // "" for none
		want    map[string]string
	}{
		{"a file", []tar.Header{file("a", "1")}, "", map[string]string{"": "644 1"}},
		{"a folder", []tar.Header{folder("a"), file("a/b", "1")}, "", map[string]string{"": "d 755", "b": "644 1"}},
		{"a folder without a name", []tar.Header{folder("./"), file("./b", "1"), hardlink("./c", "./b")}, "", map[string]string{"": "d 755", "b": "644 1", "c": "644 1"}},
		{"names that climb stay inside", []tar.Header{folder("a"), file("a/../../../../secret", "1"), file("../.profile", "1")},
			"", map[string]string{"": "d 755", "secret": "644 1", ".profile": "644 1"}},
		{"names that climb to the folder itself", []tar.Header{folder("a"), file("a/b/..", "1")}, "invalid argument", map[string]string{"": "d 755"}},
		{"absolute names stay inside", []tar.Header{folder("/a"), file("/a/etc/passwd", "1")},
			"", map[string]string{"": "d 755", "etc": "d 755", "etc/passwd": "644 1"}},
		{"links that lead out are left out", []tar.Header{
			folder("a"), folder("a/d"), symlink("a/1", "/etc/passwd"), symlink("a/2", ".."), symlink("a/3", "../x2/y"),
			symlink("a/d/4", "../.."), symlink("a/5", "d/../../z"), symlink("a/d/6", "..//../z"), symlink("a/7", "./../z"),
		}, "", map[string]string{"": "d 755", "d": "d 755"}},
		{"links within stay", []tar.Header{
			folder("a"), folder("a/d"), symlink("a/d/1", ".."), symlink("a/2", "d/x"), symlink("a/3", "./d"), symlink("a/d/4", "..//2"), symlink("a/5", "..x"),
		}, "", map[string]string{"": "d 755", "d": "d 755", "d/1": "-> ..", "2": "-> d/x", "3": "-> ./d", "d/4": "-> ..//2", "5": "-> ..x"}},
		{"a link does not move what comes after it", []tar.Header{folder("a"), folder("a/b"), folder("a/b/c"), symlink("a/b/c/up", "../.."), symlink("a/b/c/up/out", "../../x")},
			"is no folder", map[string]string{"": "d 755", "b": "d 755", "b/c": "d 755", "b/c/up": "-> ../.."}},
		{"a hard link does not move a link", []tar.Header{folder("a"), folder("a/b"), symlink("a/b/l", "../x"), hardlink("a/l", "a/b/l")},
			"is no file to link to", map[string]string{"": "d 755", "b": "d 755", "b/l": "-> ../x"}},
		{"a file is not written through a link", []tar.Header{folder("a"), folder("a/d"), symlink("a/l", "d"), file("a/l/keys", "bad")},
			"is no folder", map[string]string{"": "d 755", "d": "d 755", "l": "-> d"}},
		{"a link is replaced by a file", []tar.Header{folder("a"), symlink("a/l", "x"), file("a/l", "1")},
			"", map[string]string{"": "d 755", "l": "644 1"}},
		{"a link instead of the folder leads nowhere", []tar.Header{symlink("a", "."), file("a/.profile", "bad")},
			"neither file nor folder", nil},
		{"the mode of what a link points to stays", []tar.Header{folder("a"), folder("a/d"), symlink("a/l", "d"), {Typeflag: tar.TypeDir, Name: "a/l", Mode: 0o777}},
			"is no folder", map[string]string{"": "d 755", "d": "d 755", "l": "-> d"}},
		{"no hard link to outside", []tar.Header{folder("a"), folder("a/.ssh"), hardlink("a/h", "a/../.ssh/keys")},
			"no such file", map[string]string{"": "d 755", ".ssh": "d 755"}},
		{"no hard link alone", []tar.Header{hardlink("a", ".profile")}, "neither file nor folder", nil},
		{"no device alone", []tar.Header{device("a", tar.TypeChar)}, "neither file nor folder", nil},
		{"a hard link within", []tar.Header{folder("a"), file("a/b", "1"), hardlink("a/c", "a/b")},
			"", map[string]string{"": "d 755", "b": "644 1", "c": "644 1"}},
		{"no devices, no pipes", []tar.Header{folder("a"), device("a/c", tar.TypeChar), device("a/b", tar.TypeBlock), device("a/p", tar.TypeFifo)},
			"", map[string]string{"": "d 755"}},
		{"no set-user-id", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", Mode: 0o6755}}, "", map[string]string{"": "755 "}},
		{"a huge name", []tar.Header{folder("a"), file("a/"+long, "1")}, "too long", map[string]string{"": "d 755"}},
		{"the later of two entries counts", []tar.Header{folder("a"), file("a/b", "1"), file("a/b", "2"), symlink("a/b", "c"), file("a/b", "3")},
			"", map[string]string{"": "d 755", "b": "644 3"}},
		{"a file where an empty folder was", []tar.Header{folder("a"), folder("a/b"), file("a/b", "1")},
			"", map[string]string{"": "d 755", "b": "644 1"}},
		{"no file where a full folder was", []tar.Header{folder("a"), file("a/b/c", "1"), file("a/b", "2")},
			"not empty", map[string]string{"": "d 755", "b": "d 755", "b/c": "644 1"}},
		{"no folder where a file was", []tar.Header{folder("a"), file("a/b", "1"), file("a/b/c", "2")},
			"is no folder", map[string]string{"": "d 755", "b": "644 1"}},
		{"nothing below a file", []tar.Header{file("a", "1"), file("a/b", "2")}, "does not begin with", map[string]string{"": "644 1"}},
		{"nothing at all", nil, "archive is empty", nil},
		{"a very deep name", []tar.Header{folder("a"), file("a/"+deep+"f", "1")}, "too long", map[string]string{"": "d 755"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			before := p.outside(t)
			err := p.unpack(pack(t, test.entries...))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(before, p.outside(t)); diff != "" {
				t.Errorf("something changed outside: %s", diff)
			}
			if test.want == nil {
				return
			}
			if diff := cmp.Diff(test.want, p.laid(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What stands at the target may be what an attacker has left there before.
func TestUnpackOverLinksStaysInside(t *testing.T) {
	for _, test := range []struct{ name, link, to string }{
		{"in place of the folder", "x", ".ssh"},
		{"in place of a folder in it", "x/l", "../.ssh"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			link := filepath.Join(p.dir, "home", test.link)
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(test.to, link); err != nil {
				t.Fatal(err)
			}
			before := p.outside(t)
			err := p.unpack(pack(t, folder("a"), folder("a/l"), file("a/l/keys", "bad")))
			if err == nil || !strings.Contains(err.Error(), "is no folder") {
				t.Errorf("wrote through a link that was there: %v", err)
			}
			if diff := cmp.Diff(before, p.outside(t)); diff != "" {
				t.Errorf("something changed outside: %s", diff)
			}
		})
	}
}

func TestWhatIsLeftOutIsTold(t *testing.T) {
	p := newPlace(t)
	to := p.target()
	var told []string
	to.LeftOut = func(name, why string) { told = append(told, name+": "+why) }
	tally, err := archive.Unpack(bytes.NewReader(pack(t,
		folder("a"), file("a/f", "123"), symlink("a/l", "/"), symlink("a/k", "f"), device("a/p", tar.TypeFifo), hardlink("a/h", "a/f"))), to)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a/l: a link that leads out of the folder", "a/p: neither file, folder nor link"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(archive.Tally{Entries: 4, Bytes: 3, LeftOut: 2}, tally); diff != "" {
		t.Error(diff)
	}
}

func TestUnpackIsBounded(t *testing.T) {
	t.Run("by what the guest can have", func(t *testing.T) {
		for _, entries := range [][]tar.Header{
			{file("a", "12345")},
			{folder("a"), file("a/b", "123"), file("a/c", "12")},
			{folder("a"), file("a/b", "123"), file("a/b", "12")}, // what is replaced was sent all the same
		} {
			p := newPlace(t)
			to := p.target()
			to.MaxBytes = 4
			_, err := archive.Unpack(bytes.NewReader(pack(t, entries...)), to)
			if err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
				t.Errorf("got error %v", err)
			}
		}
	})
	t.Run("by its end", func(t *testing.T) {
		stream := io.MultiReader(bytes.NewReader(pack(t, file("a", "1"))), endless{})
		if _, err := archive.Unpack(stream, newPlace(t).target()); err == nil || !strings.Contains(err.Error(), "after its end") {
			t.Errorf("got error %v", err)
		}
	})
}

// endless is padding.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestUnpackMergesFolders(t *testing.T) {
	p := newPlace(t)
	for _, entries := range [][]tar.Header{
		{folder("a"), file("a/old", "1"), file("a/both", "1")},
		{folder("b"), file("b/new", "2"), file("b/both", "2")},
	} {
		if err := p.unpack(pack(t, entries...)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"": "d 755", "old": "644 1", "both": "644 2", "new": "644 2"}
	if diff := cmp.Diff(want, p.laid(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUnpackOfTruncatedStreamsIsAnError(t *testing.T) {
	whole := pack(t, folder("a"), file("a/b", strings.Repeat("x", 2000)))
	end := len(whole) - 1024 // two empty blocks are the end mark
	for _, n := range []int{1, 511, 513, 1000, 1024, 1100, end - 600} {
		if err := newPlace(t).unpack(whole[:n]); err == nil {
			t.Errorf("cut off after %d of %d bytes: no error", n, len(whole))
		}
	}
}

func TestUnpackRefusesSparseFiles(t *testing.T) {
	// A PAX 1.0 sparse file of 8 EiB less one byte, which is all hole.
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	records := ""
	for _, kv := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=a", "GNU.sparse.realsize=9223372036854775807"} {
		n := len(kv) + 2
		n += len(fmt.Sprint(n + len(fmt.Sprint(n))))
		records += fmt.Sprintf("%d %s\n", n, kv)
	}
	// The writer refuses such records, so its header is relabelled.
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "pax", Size: int64(len(records)), Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, records)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 512, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	w.Write(append([]byte("0\n"), make([]byte, 510)...))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stream := b.Bytes()
	relabel(stream[:512], tar.TypeXHeader)

	p := newPlace(t)
	if err := p.unpack(stream); err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("got %v, want a refusal", err)
	}
	if laid := p.laid(t); laid != nil {
		t.Errorf("laid down %v", laid)
	}
}

// relabel changes the type of a USTAR header and mends its sum.
func relabel(h []byte, kind byte) {
	h[156] = kind
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestRoundTripKeepsModesAndLinks(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	for _, dir := range []string{"", "d", "d/empty"} {
		if err := os.Mkdir(filepath.Join(source, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{
		"run": 0o755, "d/secret": 0o600, "d/read": 0o444, "name with\nbreak, & \\": 0o644, strings.Repeat("ä", 100): 0o644,
	} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"d/up": "../run", "d/broken": "none"} {
		if err := os.Symlink(to, filepath.Join(source, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"source", "other", "a,b&c\\d", "a\nb", "-x", "."} {
		var stream bytes.Buffer
		if err := archive.Pack(&stream, source, name, &archive.Tally{}); err != nil {
			t.Fatalf("pack as %q: %v", name, err)
		}
		if name == "." { // is for unpacking into a folder that exists
			continue
		}
		p := newPlace(t)
		if err := p.unpack(stream.Bytes()); err != nil {
			t.Fatalf("unpack %q: %v", name, err)
		}
		if diff := cmp.Diff(tree(t, source), p.laid(t)); diff != "" {
			t.Errorf("as %q: %s", name, diff)
		}
	}
}

func TestPackOfSomethingElseIsAnErrorWithoutEndMark(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "b"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	err := archive.Pack(&stream, dir, "x", &archive.Tally{})
	if err == nil || !strings.Contains(err.Error(), "neither file, folder nor link") {
		t.Errorf("got %v", err)
	}
	if bytes.HasSuffix(stream.Bytes(), make([]byte, 1024)) {
		t.Error("the stream looks whole")
	}
}

func TestPackOfAMissingSourceIsAnError(t *testing.T) {
	if err := archive.Pack(io.Discard, filepath.Join(t.TempDir(), "none"), "x", &archive.Tally{}); err == nil {
		t.Error("no error")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, file("a", "1")))
	f.Add(pack(f, folder("a"), symlink("a/l", "../.ssh"), file("a/l/keys", "bad")))
	f.Add(pack(f, folder("a"), file("a/b", "1"), hardlink("a/c", "a/b"), device("a/d", tar.TypeChar)))
	f.Add(pack(f, symlink("a", "."), folder("a"), file("a/.profile", "bad")))
	f.Add(pack(f, folder("a"), folder("a/b"), symlink("a/b/up", ".."), symlink("a/b/up/out", "../secret"), hardlink("a/l", "a/b/up")))
	f.Add(pack(f, folder("a"), folder("a/b"), symlink("a/b/up", ".."), symlink("a/l", "b/up/../../secret")))
	f.Add(pack(f, folder("a"), file("a/../../secret", strings.Repeat("x", 600)))[:1300])
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := newPlace(t)
		before := p.outside(t)
		err := p.unpack(stream)
		if diff := cmp.Diff(before, p.outside(t)); diff != "" {
			t.Fatalf("something changed outside (%v): %s", err, diff)
		}
		home := filepath.Join(p.dir, "home/x")
		for name, what := range p.laid(t) {
			if end, err := filepath.EvalSymlinks(filepath.Join(home, name)); err == nil && end != home && !strings.HasPrefix(end, home+"/") {
				t.Fatalf("%q (%s) leads to %s", name, what, end)
			}
		}
	})
}
