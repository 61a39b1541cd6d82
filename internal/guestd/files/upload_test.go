package files_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const octets = "application/octet-stream"

// written is one file in the answer of an upload.
type written struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata"`
}

// puts checks a successful upload.
func (a answer) puts(t *testing.T, want ...written) {
	t.Helper()
	var got []written
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
}

// form makes a multipart body. Each part is a disposition and a content.
func form(t *testing.T, parts ...[2]string) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	for _, p := range parts {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {p[0]}})
		if err == nil {
			_, err = io.WriteString(part, p[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), body
}

func file(name string) string { return `form-data; name="file"; filename="` + name + `"` }

func packed(t *testing.T, data []byte) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func content(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %.60q, %v; want %.60q", path, got, err, want)
	}
}

func TestUploadBody(t *testing.T) {
	r := newRig(t)
	t.Run("makes the file and its parents for the user", func(t *testing.T) {
		path := r.path("new/dir/file.txt")
		r.do(t, http.MethodPost, at("new/dir/file.txt"), strings.NewReader("hello"), "Content-Type", octets).
			puts(t, written{Path: path, Name: "file.txt", Type: "file"})
		content(t, path, "hello")
		owned(t, path, 65534, 0o644)
		owned(t, r.path("new"), 65534, 0o755)
		owned(t, r.path("new/dir"), 65534, 0o755)
	})
	t.Run("overwrites in place and changes the owner", func(t *testing.T) {
		path := r.path("old")
		write(t, path, "a longer content")
		if err := os.Chmod(path, 0o751); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(path, r.path("same")); err != nil {
			t.Fatal(err)
		}
		r.do(t, http.MethodPost, at(path), strings.NewReader("short"), "Content-Type", octets).
			puts(t, written{Path: path, Name: "old", Type: "file"})
		content(t, r.path("same"), "short")
		owned(t, path, 65534, 0o751)
	})
	t.Run("writes as another user", func(t *testing.T) {
		path := r.path("roots")
		r.do(t, http.MethodPost, at(path)+"&username=root", strings.NewReader(""), "Content-Type", octets).
			puts(t, written{Path: path, Name: "roots", Type: "file"})
		owned(t, path, 0, 0o644)
	})
	t.Run("follows a link, even to nowhere", func(t *testing.T) {
		symlink(t, "real", r.path("link"))
		r.do(t, http.MethodPost, at("link"), strings.NewReader("x"), "Content-Type", octets).
			puts(t, written{Path: r.path("link"), Name: "link", Type: "file"})
		content(t, r.path("real"), "x")
	})
	t.Run("unpacks", func(t *testing.T) {
		r.do(t, http.MethodPost, at("packed"), packed(t, []byte("text")), "Content-Type", octets, "Content-Encoding", "gzip").
			puts(t, written{Path: r.path("packed"), Name: "packed", Type: "file"})
		content(t, r.path("packed"), "text")
	})
	t.Run("takes a body of unknown length", func(t *testing.T) {
		body := struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 3<<20))}
		r.do(t, http.MethodPost, at("chunked"), body, "Content-Type", octets)
		content(t, r.path("chunked"), strings.Repeat("x", 3<<20))
	})
}

func TestUploadForm(t *testing.T) {
	r := newRig(t)
	t.Run("parts name themselves, directories included", func(t *testing.T) {
		ctype, body := form(t, [2]string{file("a/one.txt"), "1"}, [2]string{`form-data; name="note"`, "skipped"},
			[2]string{file(r.path("two")), "2"}, [2]string{file("say %22hi%22"), "3"})
		r.do(t, http.MethodPost, "/files", body, "Content-Type", ctype).puts(t,
			written{Path: r.path("a/one.txt"), Name: "one.txt", Type: "file"},
			written{Path: r.path("two"), Name: "two", Type: "file"},
			written{Path: r.path(`say "hi"`), Name: `say "hi"`, Type: "file"})
		content(t, r.path("a/one.txt"), "1")
		content(t, r.path("two"), "2")
	})
	t.Run("the query's path wins", func(t *testing.T) {
		ctype, body := form(t, [2]string{file("ignored"), "x"})
		r.do(t, http.MethodPost, at("~/named"), body, "Content-Type", ctype).
			puts(t, written{Path: r.path("named"), Name: "named", Type: "file"})
		content(t, r.path("named"), "x")
	})
	t.Run("is unpacked as a whole", func(t *testing.T) {
		ctype, body := form(t, [2]string{file("z"), "zipped"})
		r.do(t, http.MethodPost, "/files", packed(t, body.Bytes()), "Content-Type", ctype, "Content-Encoding", "gzip").
			puts(t, written{Path: r.path("z"), Name: "z", Type: "file"})
		content(t, r.path("z"), "zipped")
	})
	t.Run("may be empty", func(t *testing.T) {
		ctype, body := form(t)
		if a := r.do(t, http.MethodPost, "/files", body, "Content-Type", ctype); a.status != 200 || string(a.body) != "[]\n" {
			t.Errorf("got %d %q", a.status, a.body)
		}
	})
}

func TestUploadMetadata(t *testing.T) {
	r := newRig(t)
	put := func(header ...string) answer {
		return r.do(t, http.MethodPost, at("file"), strings.NewReader("x"), append(header, "Content-Type", octets)...)
	}
	want := written{Path: r.path("file"), Name: "file", Type: "file"}
	want.Metadata = map[string]string{"author": "me", "long-key": "a b"}
	put("X-Metadata-Author", "me", "x-metadata-LONG-key", " a b ").puts(t, want)
	if diff := cmp.Diff(want.Metadata, stat(t, r, "file").GetMetadata()); diff != "" {
		t.Error(diff)
	}
	if err := unix.Setxattr(r.path("file"), "user.mine", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	want.Metadata = map[string]string{"author": "you"}
	put("X-Metadata-Author", "you").puts(t, want)
	want.Metadata = nil
	put().puts(t, want)
	if n, err := unix.Getxattr(r.path("file"), "user.mine", make([]byte, 9)); n != 4 || err != nil {
		t.Errorf("another's attribute was touched: %d, %v", n, err)
	}
	for _, test := range []struct {
		name, key, value, text string
	}{
		{"too long a key", strings.Repeat("k", 247), "v", "is longer than 246 bytes"},
		{"too much", "k", strings.Repeat("v", 4096), "more than 4096"},
		{"no ASCII", "k", "\u00fc", "is not printable ASCII"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.Remove(r.path("file")); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			put("X-Metadata-"+test.key, test.value).fails(t, 400, test.text)
			if _, err := os.Lstat(r.path("file")); err == nil {
				t.Error("the file was made all the same")
			}
		})
	}
	t.Run("none where there are no attributes", func(t *testing.T) {
		dir := r.path("plain")
		mkdir(t, dir)
		if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		r.do(t, http.MethodPost, at("plain/f"), strings.NewReader("x"), "Content-Type", octets, "X-Metadata-A", "b").
			puts(t, written{Path: filepath.Join(dir, "f"), Name: "f", Type: "file"})
	})
}

func TestUploadErrors(t *testing.T) {
	r := newRig(t)
	mkdir(t, r.path("dir"))
	mkdir(t, r.path("tiny"))
	mkfifo(t, r.path("fifo"))
	write(t, r.path("file"), "x")
	tmpfs(t, r.path("tiny"), "size=64k,nr_inodes=3")
	write(t, r.path("tiny/last"), "")
	body := func(text string) (string, *bytes.Buffer) { return octets, bytes.NewBufferString(text) }
	post := func(ctype string, data *bytes.Buffer) func(string, ...string) answer {
		return func(target string, header ...string) answer {
			return r.do(t, http.MethodPost, target, bytes.NewReader(data.Bytes()), append([]string{"Content-Type", ctype}, header...)...)
		}
	}
	plain, full := post(body("x")), post(body(strings.Repeat("x", 1<<20)))
	broken := packed(t, []byte(strings.Repeat("text ", 1000)))
	broken.Truncate(broken.Len() - 4)
	for _, test := range []struct {
		name   string
		answer answer
		status int
		text   string
	}{
		{"a directory", plain(at("dir")), 400, "path '" + r.path("dir") + "' is a directory"},
		{"a FIFO", plain(at("fifo")), 400, "is not a regular file"},
		{"under a file", plain(at("file/x")), 400, "file' is not a directory"},
		{"no path", plain("/files"), 400, "query parameter path is missing"},
		{"an unknown user", plain(at("new") + "&username=root123"), 401, "invalid username: 'root123'"},
		{"another content type", post("text/plain", broken)(at("new")), 400, "content type 'text/plain' is not supported"},
		{"no content type", post("", broken)(at("new")), 400, "content type '' is not supported"},
		{"another encoding", plain(at("new"), "Content-Encoding", "br"), 400, "content encoding 'br' is not supported"},
		{"what is not packed", plain(at("new"), "Content-Encoding", "gzip"), 400, "read gzip body"},
		{"what is cut off", post(octets, broken)(at("new"), "Content-Encoding", "gzip"), 400, "unexpected EOF"},
		{"a form without parts", post("multipart/form-data; boundary=b", bytes.NewBufferString("nothing"))("/files"), 400, "read form"},
		{"a form that is cut off", post("multipart/form-data; boundary=b",
			bytes.NewBufferString("--b\r\nContent-Disposition: "+file("cut")+"\r\n\r\nabc"))("/files"), 400, "unexpected EOF"},
		{"a form without boundary", post("multipart/form-data", broken)("/files"), 400, "is not supported"},
		{"a part without name", post(form(t, [2]string{`form-data; name="file"`, "x"}))("/files"), 400, "part has no filename"},
		{"the same path twice", post(form(t, [2]string{file("new"), "x"}, [2]string{file("./new"), "y"}))("/files"),
			400, "is given twice: only its first file was written"},
		{"a full disk", full(at("tiny/last")), 507, "no space left"},
		{"no inodes", plain(at("tiny/one-more")), 507, "no space left"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.answer.fails(t, test.status, test.text)
		})
	}
	content(t, r.path("new"), "x") // of the form with the same path twice, and no other
	if _, err := os.Lstat(r.path("cut")); !os.IsNotExist(err) {
		t.Errorf("half a file is left: %v", err)
	}
}

func TestFailedUploadLeavesNoFile(t *testing.T) {
	r := newRig(t)
	mkdir(t, r.path("tiny"))
	tmpfs(t, r.path("tiny"), "size=64k")
	a := r.do(t, http.MethodPost, at("tiny/new"), strings.NewReader(strings.Repeat("x", 1<<20)), "Content-Type", octets)
	a.fails(t, 507, "no space left")
	if _, err := os.Lstat(r.path("tiny/new")); !os.IsNotExist(err) {
		t.Errorf("half a file is left: %v", err)
	}
}

func TestCompose(t *testing.T) {
	r := newRig(t)
	post := func(body string) answer {
		return r.do(t, http.MethodPost, "/files/compose", strings.NewReader(body))
	}
	write(t, r.path("1"), "one ")
	write(t, r.path("2"), "two")
	write(t, r.path("dest"), "old")
	mkdir(t, r.path("dir"))
	mkfifo(t, r.path("fifo"))
	for _, test := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"garbage", `{`, 400, "read request"},
		{"no sources", `{"source_paths":[],"destination":"dest"}`, 400, "are needed"},
		{"no destination", `{"source_paths":["1"]}`, 400, "are needed"},
		{"itself", `{"source_paths":["1","./dest"],"destination":"dest"}`, 400, "is source and destination"},
		{"a missing source", `{"source_paths":["1","none"],"destination":"dest"}`, 404, "none' does not exist"},
		{"a directory", `{"source_paths":["1","dir"],"destination":"dest"}`, 400, "is a directory"},
		{"a FIFO", `{"source_paths":["1","fifo"],"destination":"dest"}`, 400, "is not a regular file"},
		{"onto a directory", `{"source_paths":["1","2"],"destination":"dir"}`, 409, "file exists"},
		{"an unknown user", `{"source_paths":["1"],"destination":"dest","username":"root123"}`, 401, "invalid username: 'root123'"},
	} {
		t.Run(test.name, func(t *testing.T) { post(test.body).fails(t, test.status, test.text) })
	}
	content(t, r.path("dest"), "old")
	content(t, r.path("1"), "one ")

	a := post(fmt.Sprintf(`{"source_paths":["1",%q],"destination":"made/up"}`, r.path("2")))
	if got, want := string(a.body), fmt.Sprintf("{\"path\":%q,\"name\":\"up\",\"type\":\"file\"}\n", r.path("made/up")); got != want {
		t.Errorf("got %d %s, want %s", a.status, got, want)
	}
	content(t, r.path("made/up"), "one two")
	owned(t, r.path("made/up"), 65534, 0o644)
	owned(t, r.path("made"), 65534, 0o755)
	for _, dir := range []string{r.home, r.path("made")} {
		left, err := filepath.Glob(filepath.Join(dir, ".compose-*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
	if _, err := os.Lstat(r.path("1")); !os.IsNotExist(err) {
		t.Errorf("a source is still there: %v", err)
	}
}
