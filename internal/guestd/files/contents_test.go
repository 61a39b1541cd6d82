package files_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answer is one HTTP answer, its body as it was on the wire.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// failure is the body of every error.
type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// do sends one request. Header values are given in pairs with their names.
func (r *rig) do(t *testing.T, method, target string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(soon(t), method, r.url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "") // or the client asks for gzip and unpacks it in secret
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, got}
}

// fails checks an error answer.
func (a answer) fails(t *testing.T, status int, text string) {
	t.Helper()
	var f failure
	if err := json.Unmarshal(a.body, &f); err != nil {
		t.Errorf("%d %q: %v", a.status, a.body, err)
		return
	}
	if a.status != status || f.Code != status || !strings.Contains(f.Message, text) {
		t.Errorf("got %d %s, want %d with %q", a.status, a.body, status, text)
	}
}

func at(path string) string { return "/files?path=" + url.QueryEscape(path) }

func gunzip(t *testing.T, data []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDownload(t *testing.T) {
	r := newRig(t)
	large := make([]byte, 300_000)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	write(t, r.path("small.txt"), "hello")
	write(t, r.path("large.bin"), string(large))
	write(t, r.path("empty"), "")
	write(t, r.path("gr\u00fc\u00dfe \"a\".html"), "<p>")
	symlink(t, "small.txt", r.path("link"))
	for _, test := range []struct {
		name, path string
		header     []string
		status     int
		body       string
		want       map[string]string // headers
	}{
		{"plain by default", "small.txt", nil, 200, "hello", map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "", "Vary": "Accept-Encoding",
			"Content-Disposition": "inline; filename=small.txt", "Content-Length": "5"}},
		{"all of a large file", "large.bin", nil, 200, string(large), map[string]string{"Content-Length": "300000"}},
		{"an empty file", "empty", nil, 200, "", map[string]string{"Content-Length": "0"}},
		{"through a link", "link", nil, 200, "hello", map[string]string{"Content-Disposition": "inline; filename=link"}},
		{"a name that needs quoting", "gr\u00fc\u00dfe \"a\".html", nil, 200, "<p>", map[string]string{
			"Content-Type":        "text/html; charset=utf-8",
			"Content-Disposition": "inline; filename*=utf-8''gr%C3%BC%C3%9Fe%20%22a%22.html"}},
		{"packed for those who like it", "small.txt", []string{"Accept-Encoding", "gzip, deflate"}, 200, "hello", map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}},
		{"packed though large", "large.bin", []string{"Accept-Encoding", "gzip"}, 200, string(large),
			map[string]string{"Content-Encoding": "gzip"}},
		{"packed though empty", "empty", []string{"Accept-Encoding", "gzip"}, 200, "", map[string]string{
			"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}},
		{"a range, never packed", "large.bin", []string{"Range", "bytes=10-19", "Accept-Encoding", "gzip"}, 206,
			string(large[10:20]), map[string]string{"Content-Range": "bytes 10-19/300000", "Content-Encoding": ""}},
		{"a range of a small file", "small.txt", []string{"Range", "bytes=-2"}, 206, "lo", nil},
		{"a file that says it is empty", "/proc/version", nil, 200, "Linux version", nil},
		{"the same packed", "/proc/version", []string{"Accept-Encoding", "gzip"}, 200, "Linux version", nil},
		{"a file that says it is larger", "/sys/kernel/uevent_seqnum", nil, 200, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := r.do(t, http.MethodGet, at(test.path), nil, test.header...)
			body := string(a.body)
			if a.header.Get("Content-Encoding") == "gzip" {
				body = gunzip(t, a.body)
			}
			whole := !filepath.IsAbs(test.path) // the system's own files vary
			if a.status != test.status || whole && body != test.body || !strings.HasPrefix(body, test.body) {
				t.Errorf("got %d %.60q, want %d %.60q", a.status, body, test.status, test.body)
			}
			for name, want := range test.want {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
	t.Run("unchanged is said so", func(t *testing.T) {
		first := r.do(t, http.MethodGet, at("small.txt"), nil)
		a := r.do(t, http.MethodGet, at("small.txt"), nil, "If-Modified-Since", first.header.Get("Last-Modified"))
		if a.status != http.StatusNotModified {
			t.Errorf("got %d", a.status)
		}
	})
	t.Run("a large file of procfs comes whole", func(t *testing.T) {
		want, err := os.ReadFile("/proc/kallsyms")
		if err != nil || len(want) < 1<<17 {
			t.Skipf("/proc/kallsyms has %d bytes here: %v", len(want), err)
		}
		if got := r.do(t, http.MethodGet, at("/proc/kallsyms"), nil); len(got.body) != len(want) {
			t.Errorf("got %d bytes, want %d", len(got.body), len(want))
		}
	})
}

func TestDownloadErrors(t *testing.T) {
	r := newRig(t)
	mkdir(t, r.path("dir"))
	mkfifo(t, r.path("fifo"))
	write(t, r.path("file"), "x")
	for _, test := range []struct {
		name, target string
		header       []string
		status       int
		text         string
	}{
		{"a missing file", at("none"), nil, 404, "path '" + r.path("none") + "' does not exist"},
		{"a path under a file", at("file/x"), nil, 404, "does not exist"},
		{"a directory", at("dir"), nil, 400, "path '" + r.path("dir") + "' is a directory"},
		{"no path, which is the home", "/files", nil, 400, "is a directory"},
		{"a FIFO", at("fifo"), nil, 400, "is not a regular file"},
		{"a device", at("/dev/zero"), nil, 400, "is not a regular file"},
		{"an unknown user", at("file") + "&username=root123", nil, 401, "invalid username: 'root123'"},
		{"another's home", at("~root/x"), nil, 400, "another user's home"},
		{"a zero byte", at("a\x00"), nil, 400, "zero byte"},
		{"no encoding that exists", at("file"), []string{"Accept-Encoding", "br, identity;q=0"}, 406, "no acceptable encoding"},
		{"a range of what must be packed", at("file"), []string{"Accept-Encoding", "gzip, identity;q=0", "Range", "bytes=0-0"},
			406, "no acceptable encoding"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.do(t, http.MethodGet, test.target, nil, test.header...).fails(t, test.status, test.text)
		})
	}
}

func TestAcceptEncoding(t *testing.T) {
	r := newRig(t)
	write(t, r.path("file"), "x")
	for _, test := range []struct {
		header string
		want   string // encoding; "406" if there is none
	}{
		{"", ""}, {"identity", ""}, {"br", ""}, {"gzip", "gzip"}, {"GZIP;q=0.5", "gzip"}, {"gzip;q=0", ""},
		{"gzip, deflate, br", "gzip"}, {"deflate, gzip;q=1.0, *;q=0.5", "gzip"}, {"*", ""}, {"*;q=0", "406"},
		{"*;q=0, gzip", "gzip"}, {"*;q=0, identity", ""}, {"identity;q=0", "406"}, {"identity;q=0, *", "gzip"},
		{"identity;q=0, gzip;q=0.1", "gzip"}, {"identity;q=0.9, gzip;q=0.1", ""}, {";;,q", ""},
	} {
		t.Run(test.header, func(t *testing.T) {
			a := r.do(t, http.MethodGet, at("file"), nil, "Accept-Encoding", test.header)
			got := a.header.Get("Content-Encoding")
			if a.status == http.StatusNotAcceptable {
				got = "406"
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
