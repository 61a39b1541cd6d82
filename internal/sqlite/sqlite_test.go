package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sqlite"

	"github.com/google/go-cmp/cmp"
)

// writerEnv makes the test binary the process that
// TestWhatSaveReturnedForSurvivesKill kills.
const writerEnv = "BULKHEAD_TEST_SQLITE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		os.Exit(writeForEver(path))
	}
	os.Exit(m.Run())
}

func writeForEver(path string) int {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, path)
	for i := 0; err == nil; i++ {
		id := fmt.Sprintf("i%06d", i)
		if err = db.Sandboxes().Save(ctx, sqlite.SandboxRow{ID: id, Name: id}); err == nil {
			_, err = fmt.Println(id)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func open(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func dbPath(t *testing.T) string { return filepath.Join(t.TempDir(), "bulkhead.db") }

func TestOpenKeepsRowsAcrossReopen(t *testing.T) {
	// Characters that mean something in a database URI.
	path := filepath.Join(t.TempDir(), "a b?c=d%20&e#f.db")
	row := sqlite.SandboxRow{ID: "i1", Name: "web", Created: time.Unix(5, 7).UTC(), Spec: []byte(`{"a":1}`)}
	first, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Sandboxes().Save(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := open(t, path).Sandboxes().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sqlite.SandboxRow{row}, rows); diff != "" {
		t.Error(diff)
	}
}

func TestOpenIsPrivateAndDurable(t *testing.T) {
	path := dbPath(t)
	db := open(t, path)
	if err := db.Templates().Save(t.Context(), sqlite.TemplateRow{Name: "base"}); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		fi, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fi.Mode(), os.FileMode(0o600); got != want {
			t.Errorf("mode of database%s = %v, want %v", suffix, got, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		damage func(t *testing.T, path string)
		kind   fault.Kind
	}{
		"a file that is no database": {func(t *testing.T, path string) {
			overwrite(t, path, 0, strings.Repeat("x", 4096))
		}, fault.Corrupt},
		"a damaged page": {func(t *testing.T, path string) {
			overwrite(t, path, 4096, strings.Repeat("\xff", 4096))
		}, fault.Corrupt},
		"a newer version": {func(t *testing.T, path string) {
			raw, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw.Exec("PRAGMA user_version = 99"); err != nil {
				t.Fatal(err)
			}
			if err := raw.Close(); err != nil {
				t.Fatal(err)
			}
		}, fault.Unsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			db, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, path)
			_, err = sqlite.Open(t.Context(), path)
			if got, want := fault.KindOf(err), tt.kind; got != want {
				t.Errorf("kind of %v = %q, want %q", err, got, want)
			}
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q is not one line that names %s", err, path)
			}
		})
	}
}

func overwrite(t *testing.T, path string, offset int64, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCancelledContextChangesNothing(t *testing.T) {
	db := open(t, dbPath(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.Sandboxes().Save(ctx, sqlite.SandboxRow{ID: "i1"})
	if got, want := err, context.Canceled; !errors.Is(got, want) {
		t.Errorf("Save under a cancelled context = %v, want %v", got, want)
	}
	rows, err := db.Sandboxes().List(t.Context())
	if err != nil || len(rows) != 0 {
		t.Errorf("List = %v, %v; want nothing", rows, err)
	}
}

func TestConcurrentWritersAllSucceed(t *testing.T) {
	db := open(t, dbPath(t))
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 10 {
				id := fmt.Sprintf("i%d-%d", w, i)
				if err := db.Sandboxes().Save(t.Context(), sqlite.SandboxRow{ID: id, Name: id}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	rows, err := db.Sandboxes().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(rows), 80; got != want {
		t.Errorf("rows = %d, want %d", got, want)
	}
}

func TestWhatSaveReturnedForSurvivesKill(t *testing.T) {
	path := dbPath(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	saved := map[string]bool{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		saved[lines.Text()] = true
		if len(saved) == 200 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("writer ended with %v, want a kill", err)
	}
	rows, err := open(t, path).Sandboxes().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		delete(saved, r.ID)
	}
	if len(saved) > 0 {
		t.Errorf("lost: %v", saved)
	}
}

func TestFullDiskIsNamedAndHarmless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	db := open(t, filepath.Join(dir, "bulkhead.db"))
	var err error
	saved := 0
	for ; err == nil && saved < 100; saved++ {
		row := sqlite.TemplateRow{Name: fmt.Sprint(saved), Spec: make([]byte, 16<<10)}
		err = db.Templates().Save(t.Context(), row)
	}
	if !fault.Is(err, fault.Exhausted) {
		t.Fatalf("filling the disk = %v, want a fault of kind %s", err, fault.Exhausted)
	}
	rows, err := db.Templates().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(rows), saved-1; got != want {
		t.Errorf("rows = %d, want the %d that Save returned for", got, want)
	}
}
