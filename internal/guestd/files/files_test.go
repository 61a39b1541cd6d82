package files_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
	"bulkhead/internal/guestd/files"
	"bulkhead/proto/filesystem/filesystemconnect"
)

// rig is a service behind a real HTTP server. Its default user is tester, uid
// and gid 65534, whose home is an empty directory.
type rig struct {
	url, home string
	filesystemconnect.FilesystemClient
}

func newRig(t *testing.T, opts ...connect.ClientOption) *rig {
	t.Helper()
	etc, home := t.TempDir(), t.TempDir()
	write(t, filepath.Join(etc, "passwd"), "root:x:0:0::/root:/bin/sh\ntester:x:65534:65534::"+home+":/bin/sh\n")
	write(t, filepath.Join(etc, "group"), "root:x:0:\ntesters:x:65534:\n")
	s := files.New(files.Options{Users: account.Users{Dir: etc, Default: func() string { return "tester" }}})
	mux := http.NewServeMux()
	mux.Handle(s.Handler())
	mux.Handle("/files", s.Contents())
	mux.Handle("/files/", s.Contents())
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		s.Close()
	})
	return &rig{srv.URL, home, filesystemconnect.NewFilesystemClient(srv.Client(), srv.URL, opts...)}
}

func (r *rig) path(names ...string) string {
	return filepath.Join(append([]string{r.home}, names...)...)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

// owned checks who owns path and its permission bits.
func owned(t *testing.T, path string, uid uint32, mode os.FileMode) {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid != uid || st.Gid != uid || fi.Mode().Perm() != mode {
		t.Errorf("%s is %d:%d %v, want %d:%d %v", path, st.Uid, st.Gid, fi.Mode().Perm(), uid, uid, mode)
	}
}

func as[T any](user string, m *T) *connect.Request[T] {
	req := connect.NewRequest(m)
	req.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":")))
	return req
}

// wantCode checks the code and the words of an error; code 0 wants none.
func wantCode(t *testing.T, err error, code connect.Code, text string) {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Errorf("got %v, want success", err)
		}
		return
	}
	if err == nil || connect.CodeOf(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %v with %q", err, code, text)
	}
}

// soon is a context for what must end by itself; it only keeps a broken test
// from hanging for ever.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryKindHasCodeAndStatus(t *testing.T) {
	for _, kind := range fault.Kinds() {
		code, status := files.Code(kind), files.Status(kind)
		if (code == connect.CodeInternal) != (kind == fault.Internal) {
			t.Errorf("kind %s has code %v", kind, code)
		}
		if status < 400 || status == 502 || status == 503 || status == 504 {
			t.Errorf("kind %s has status %d", kind, status)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{
		`form-data; name="file"; filename="a/b.txt"`,
		`form-data; name="file"; filename="a%22b.txt"`,
		`form-data; name="file"; filename="\\..\\a"`,
		"form-data; name=\"file\"; filename=\"\xc3\xbc\"",
		`form-data; name="file"; filename*=utf-8''%e2%82%ac`,
		`form-data; filename="a"; filename="b"`,
		`form-data; filename*0="a"; filename*1="b"`,
		`form-data`, ``, `;`, `form-data; filename="`,
	} {
		f.Add(seed)
	}
	user := account.User{Home: "/home/user"}
	f.Fuzz(func(t *testing.T, header string) {
		name, err := files.FileName(header)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || name != "" {
				t.Errorf("%q gives %q, %v", header, name, err)
			}
			return
		}
		if name == "" {
			t.Errorf("%q gives no name", header)
		}
		if path, err := user.Path(name, ""); err == nil && (path != filepath.Clean(path) || !filepath.IsAbs(path)) {
			t.Errorf("%q leads to %q", header, path)
		}
	})
}

func TestFileName(t *testing.T) {
	for _, test := range []struct{ header, want string }{
		{`form-data; name="file"; filename="plain.txt"`, "plain.txt"},
		{`form-data; name="file"; filename="/abs/dir/a b;c.txt"`, "/abs/dir/a b;c.txt"},
		{`form-data; name="file"; filename="dir/../x"`, "dir/../x"},
		{`form-data; name="file"; filename="say %22hi%22.txt"`, `say "hi".txt`},
		{`form-data; name="file"; filename="say \"hi\".txt"`, `say "hi".txt`},
		{`form-data; name="file"; filename="größe.txt"`, "größe.txt"},
		{`form-data; name="file"; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt`, "größe.txt"},
		{`form-data; name="file"; filename=token.txt`, "token.txt"},
		{`form-data; name="file"; filename=""`, ""},
		{`form-data; name="file"`, ""},
		{`form-data; filename="a"; filename="b"`, ""},
		{``, ""},
	} {
		t.Run(test.header, func(t *testing.T) {
			got, err := files.FileName(test.header)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}
