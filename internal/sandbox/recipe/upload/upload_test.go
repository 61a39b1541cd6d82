package upload_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe/upload"
)

var (
	one   = strings.Repeat("1a", 32)
	two   = strings.Repeat("2b", 32)
	three = strings.Repeat("3c", 32)
)

type lab struct {
	*upload.Store
	dir string
	now time.Time
}

func newLab(t *testing.T, limits upload.Limits) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), now: time.Now()}
	var err error
	if l.Store, err = upload.Open(l.dir, limits, func() time.Time { return l.now }); err != nil {
		t.Fatal(err)
	}
	return l
}

// send sends files with a token of their own.
func (l *lab) send(t *testing.T, g upload.Grant, length int64, body io.Reader) error {
	t.Helper()
	token, err := l.Grant(g)
	if err != nil {
		t.Fatal(err)
	}
	return l.Receive(t.Context(), token, upload.Grant{Template: g.Template, Hash: g.Hash}, length, body)
}

func text(s string) (int64, io.Reader) { return int64(len(s)), strings.NewReader(s) }

func (l *lab) read(t *testing.T, team, hash string) string {
	t.Helper()
	f, err := l.Store.Open(team, hash)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files counts what there is, half-made things included.
func (l *lab) files(t *testing.T) int {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(l.dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestReceive(t *testing.T) {
	l := newLab(t, upload.Limits{File: 10, Team: 100})
	length, body := text("archive")
	if err := l.send(t, upload.Grant{Team: "a", Template: "t", Hash: one}, length, body); err != nil {
		t.Fatal(err)
	}
	if got := l.read(t, "a", one); got != "archive" || !l.Has("a", one) {
		t.Errorf("got %q", got)
	}
	if l.Has("b", one) || l.Has("a", two) {
		t.Error("files of others are there")
	}
	for _, tt := range []struct {
		name   string
		length int64
		body   io.Reader
	}{
		{"no length", -1, strings.NewReader("archive")},
		{"too large", 11, strings.NewReader("elevenbytes")},
		{"less than announced", 9, strings.NewReader("archive")},
		{"more than announced", 5, strings.NewReader("archive")},
		{"broken off", 9, io.MultiReader(strings.NewReader("arch"), iotest.ErrReader(errors.New("reset")))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := l.send(t, upload.Grant{Team: "a", Template: "t", Hash: two}, tt.length, tt.body); !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want that it is invalid", err)
			}
			if l.Has("a", two) || l.files(t) != 1 {
				t.Errorf("something of it is kept: %d files", l.files(t))
			}
		})
	}
}

func TestHashesAreNoPaths(t *testing.T) {
	l := newLab(t, upload.Limits{File: 10, Team: 100})
	for _, hash := range []string{"", "..", "../" + one[3:], one[:63], one + "0", strings.ToUpper(one), one[:63] + "/", one[:63] + "\x00"} {
		if _, err := l.Grant(upload.Grant{Team: "a", Template: "t", Hash: hash}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want that it is no hash", hash, err)
		}
		if _, err := l.Store.Open("a", hash); !fault.Is(err, fault.Invalid) || l.Has("a", hash) {
			t.Errorf("%q: got %v, want that it is no hash", hash, err)
		}
	}
}

func TestTokensAreForOneUpload(t *testing.T) {
	l := newLab(t, upload.Limits{File: 10, Team: 100})
	grant := func() string {
		token, err := l.Grant(upload.Grant{Team: "a", Template: "t", Hash: one})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	try := func(token, template, hash string) error {
		length, body := text("archive")
		return l.Receive(t.Context(), token, upload.Grant{Template: template, Hash: hash}, length, body)
	}
	token := grant()
	for _, as := range [][3]string{{"", "t", one}, {"guess", "t", one}, {token, "other", one}, {token, "t", two}} {
		if err := try(as[0], as[1], as[2]); !fault.Is(err, fault.Denied) {
			t.Errorf("%v: got %v, want that it is denied", as, err)
		}
	}
	if err := try(token, "t", one); err != nil {
		t.Errorf("its own files: %v", err)
	}
	if err := try(token, "t", one); !fault.Is(err, fault.Denied) {
		t.Errorf("a second time: %v", err)
	}
	old := grant()
	l.now = l.now.Add(2 * time.Hour)
	if err := try(old, "t", one); !fault.Is(err, fault.Denied) {
		t.Errorf("too late: %v", err)
	}
	others, err := l.Grant(upload.Grant{Team: "b", Template: "t", Hash: one})
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{grant()}
	for range 1000 {
		l.now = l.now.Add(time.Millisecond)
		tokens = append(tokens, grant())
	}
	if err := try(tokens[0], "t", one); !fault.Is(err, fault.Denied) {
		t.Errorf("the oldest of too many: %v", err)
	}
	for _, token := range []string{tokens[1], tokens[1000], others} {
		if err := try(token, "t", one); err != nil {
			t.Errorf("one of enough, or another team's: %v", err)
		}
	}
}

func TestTeamsHaveShares(t *testing.T) {
	l := newLab(t, upload.Limits{File: 10, Team: 20})
	put := func(team, hash string) error {
		l.now = l.now.Add(time.Minute)
		length, body := text("tenletters")
		if err := l.send(t, upload.Grant{Team: team, Template: "t", Hash: hash}, length, body); err != nil {
			return err
		}
		l.Has(team, hash) // it is used now
		return nil
	}
	for _, hash := range []string{one, two} {
		if err := put("a", hash); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("b", three); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(time.Minute)
	l.Has("a", one)
	if err := put("a", three); err != nil {
		t.Fatal(err)
	}
	if !l.Has("a", one) || l.Has("a", two) || !l.Has("a", three) || !l.Has("b", three) {
		t.Error("not the file has gone that was used least lately")
	}
	// While an upload is under way its room is not given to others.
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- l.send(t, upload.Grant{Team: "a", Template: "t", Hash: two}, 10, r) }()
	if _, err := w.Write([]byte("ten")); err != nil {
		t.Fatal(err)
	}
	r2, w2 := io.Pipe()
	go func() { done <- l.send(t, upload.Grant{Team: "a", Template: "t", Hash: one}, 10, r2) }()
	if _, err := w2.Write([]byte("ten")); err != nil {
		t.Fatal(err)
	}
	if err := put("a", three); !fault.Is(err, fault.Limited) {
		t.Errorf("a third upload at once: %v", err)
	}
	w.Close()
	w2.Close()
	for range 2 {
		if err := <-done; !fault.Is(err, fault.Invalid) {
			t.Errorf("broken off: %v", err)
		}
	}
	if err := put("a", three); err != nil {
		t.Errorf("after them: %v", err)
	}
}

func TestSweep(t *testing.T) {
	l := newLab(t, upload.Limits{File: 10, Team: 100})
	for _, hash := range []string{one, two} {
		length, body := text("archive")
		if err := l.send(t, upload.Grant{Team: "a", Template: "t", Hash: hash}, length, body); err != nil {
			t.Fatal(err)
		}
	}
	dirs, err := os.ReadDir(l.dir)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, dirs[0].Name(), "1.new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(6 * 24 * time.Hour)
	l.Has("a", two)
	l.now = l.now.Add(2 * 24 * time.Hour)
	again, err := upload.Open(l.dir, upload.Limits{File: 10, Team: 100}, func() time.Time { return l.now })
	if err != nil {
		t.Fatal(err)
	}
	if l.files(t) != 1 || !again.Has("a", two) {
		t.Errorf("%d files are left, want the one that was used", l.files(t))
	}
}
