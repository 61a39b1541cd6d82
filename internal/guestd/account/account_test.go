package account_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
# comment:x:1:1::/c:/bin/sh
+nis::::::
user:x:1000:1000:,,,:/home/user/:/bin/bash
user:x:2000:2000::/second:/bin/sh
nohome:x:1001:100:::
relative:x:1002:100::home/here:/bin/sh
noshell:x:1003:100::/home/noshell
short:x:1004
letters:x:one:100::/home/letters:/bin/sh
minusone:x:4294967295:100::/home/m:/bin/sh
huge:x:99999999999:100::/home/h:/bin/sh
zero` + "\x00" + `:x:1005:100::/home/z:/bin/sh
:x:1006:100::/home/nameless:/bin/sh
last:x:1007:1007:no newline:/home/last:/bin/sh`

const group = `root:x:0:
sudo:x:27:other,user
docker:x:999:user
again:x:1000:user
user:x:1000:
short:x
bad:x:-1:user
+
`

func users(t *testing.T, passwd, group string) account.Users {
	t.Helper()
	return usersIn(t, t.TempDir(), passwd, group)
}

func usersIn(t *testing.T, dir, passwd, group string) account.Users {
	t.Helper()
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		_ = os.Remove(filepath.Join(dir, name)) // ext4 syncs a file that is cut off and written again
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return account.Users{Dir: dir}
}

func TestLookup(t *testing.T) {
	u := users(t, passwd, group)
	for _, test := range []struct {
		name string
		want *account.User // nil: unknown
	}{
		{"root", &account.User{Name: "root", Groups: []uint32{0}, Home: "/root", Shell: "/bin/bash"}},
		{"user", &account.User{Name: "user", UID: 1000, GID: 1000, Groups: []uint32{1000, 27, 999}, Home: "/home/user", Shell: "/bin/bash"}},
		{"nohome", &account.User{Name: "nohome", UID: 1001, GID: 100, Groups: []uint32{100}, Home: "/"}},
		{"relative", &account.User{Name: "relative", UID: 1002, GID: 100, Groups: []uint32{100}, Home: "/", Shell: "/bin/sh"}},
		{"noshell", &account.User{Name: "noshell", UID: 1003, GID: 100, Groups: []uint32{100}, Home: "/home/noshell"}},
		{"last", &account.User{Name: "last", UID: 1007, GID: 1007, Groups: []uint32{1007}, Home: "/home/last", Shell: "/bin/sh"}},
		{"short", nil}, {"letters", nil}, {"minusone", nil}, {"huge", nil}, {"zero", nil},
		{"zero\x00", nil}, {"", nil}, {"+nis", nil}, {"# comment", nil}, {"1000", nil}, {"nobody known", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := u.Lookup(test.name)
			if test.want == nil {
				if !fault.Is(err, fault.Denied) || err.Error() != "invalid username: '"+test.name+"'" {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if diff := cmp.Diff(*test.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestRootIsAlwaysThere(t *testing.T) {
	fifo := t.TempDir()
	for _, name := range []string{"passwd", "group"} {
		if err := syscall.Mkfifo(filepath.Join(fifo, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bare := account.User{Name: "root", Groups: []uint32{0}, Home: "/root"}
	moved := account.User{Name: "root", Groups: []uint32{0}, Home: "/var/root", Shell: "/bin/zsh"}
	for _, test := range []struct {
		name  string
		users account.Users
		want  account.User
	}{
		{"without a directory", account.Users{Dir: "/no/such"}, bare},
		{"with empty files", users(t, "", ""), bare},
		{"with FIFOs for files", account.Users{Dir: fifo}, bare},
		{"with an entry for somebody else", users(t, "root:x:1000:1000::/var/root:/bin/zsh\n", ""), moved},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.users.Of(http.Header{})
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestHostileSizes(t *testing.T) {
	t.Run("an endless file is cut at a whole line", func(t *testing.T) {
		line := "x:x:1:1::/home/x:/bin/sh\n"
		u := users(t, strings.Repeat(line, 1<<20/len(line)+2)+"late:x:2:2::/:\n", "")
		if _, err := u.Lookup("x"); err != nil {
			t.Error(err)
		}
		if _, err := u.Lookup("late"); err == nil {
			t.Error("entry behind the bound was read")
		}
	})
	t.Run("no user has thousands of groups", func(t *testing.T) {
		var b strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&b, "g%d:x:%d:user\n", i, i+10)
		}
		user, err := users(t, "user:x:1:1::/:\n", b.String()).Lookup("user")
		if got, want := len(user.Groups), 1024; got != want || err != nil {
			t.Errorf("got %d, want %d (%v)", got, want, err)
		}
	})
}

func TestOf(t *testing.T) {
	u := users(t, passwd, group)
	header := func(auth string) http.Header { return http.Header{"Authorization": {auth}} }
	for _, test := range []struct {
		name, auth, def string
		want            string // "" means unknown
	}{
		{"credentials name the user", "Basic dXNlcjo=", "", "user"},
		{"the password does not count", "Basic dXNlcjp3cm9uZw==", "", "user"},
		{"an empty name means the default", "Basic Og==", "user", "user"},
		{"other credentials mean the default", "Bearer x", "user", "user"},
		{"garbage means the default", "Basic !", "user", "user"},
		{"an unknown default means root", "Bearer x", "gone", "root"},
		{"an unknown name is unknown", "Basic cm9vdDEyMzo=", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u.Default = func() string { return test.def }
			got, err := u.Of(header(test.auth))
			if got.Name != test.want || (err != nil) != (test.want == "") {
				t.Errorf("got %q, %v; want %q", got.Name, err, test.want)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	u := users(t, passwd, group)
	u.Default = func() string { return "gone" }
	h := u.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, test := range []struct {
		name, auth string
		status     int
		body       string
	}{
		{"no name passes, even without a default user", "", http.StatusTeapot, ""},
		{"a known name passes", "Basic dXNlcjo=", http.StatusTeapot, ""},
		{"an unknown name is refused", "Basic cm9vdDEyMzo=", http.StatusUnauthorized,
			`{"code":"unauthenticated","message":"invalid username: 'root123'"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/process.Process/List", strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", test.auth)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != test.status || w.Body.String() != test.body {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, test.status, test.body)
			}
		})
	}
}

func TestPath(t *testing.T) {
	u := account.User{Home: "/home/user"}
	for _, test := range []struct{ path, workdir, want string }{
		{"", "", "/home/user"},
		{"", "/work", "/work"},
		{"", "~/work", "/home/user/work"},
		{"a/b", "/work", "/home/user/a/b"},
		{"../a", "", "/home/a"},
		{"../../../..", "", "/"},
		{"~", "", "/home/user"},
		{"~/a/", "", "/home/user/a"},
		{"/a/../b//c/.", "", "/b/c"},
		{"a~b", "", "/home/user/a~b"},
		{"~other/a", "", ""},
		{"a\x00b", "", ""},
	} {
		t.Run(test.path+" in "+test.workdir, func(t *testing.T) {
			got, err := u.Path(test.path, test.workdir)
			if got != test.want || fault.Is(err, fault.Invalid) != (test.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	n := users(t, passwd+"\nsame:x:1000:1::/:\n", group).Names()
	for _, test := range []struct{ got, want string }{
		{n.User(0), "root"}, {n.User(1000), "user"}, {n.User(77), "77"},
		{n.Group(27), "sudo"}, {n.Group(1000), "again"}, {n.Group(77), "77"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// FuzzUsers: whatever the files say, root works, and nobody gets a home or an
// id that a system call would misunderstand.
func FuzzUsers(f *testing.F) {
	f.Add([]byte(passwd), []byte(group), "user")
	f.Add([]byte("root:x:0:0"), []byte("g:x:1:root"), "root")
	f.Add([]byte("a:b:1:2:c:d:e:f:g\r\n"), []byte(":::"), "a")
	dir := f.TempDir() // one for all: making directories is slow
	f.Fuzz(func(t *testing.T, passwd, group []byte, name string) {
		u := usersIn(t, dir, string(passwd), string(group))
		root, err := u.Lookup(account.Root)
		if err != nil || root.UID != 0 || root.GID != 0 {
			t.Errorf("root is %+v, %v", root, err)
		}
		user, err := u.Lookup(name)
		if err != nil {
			return
		}
		if user.Name != name || !filepath.IsAbs(user.Home) || strings.Contains(user.Home+user.Shell, "\x00") {
			t.Errorf("got %+v for %q", user, name)
		}
		if len(user.Groups) > 1024 || user.Groups[0] != user.GID || slices.Contains(user.Groups, 1<<32-1) || user.UID == 1<<32-1 {
			t.Errorf("got %+v", user)
		}
		if again := u.Names().User(user.UID); name != account.Root && again == "" {
			t.Errorf("uid %d has no name", user.UID)
		}
	})
}
