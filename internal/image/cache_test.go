package image_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/image"

	"github.com/google/go-cmp/cmp"
)

// writes returns a part that holds one file and counts how often it is made.
func writes(kind, key string, made *atomic.Int32) image.Part {
	return image.Part{Kind: kind, Key: key, Make: func(_ context.Context, dir string, log func(string)) error {
		made.Add(1)
		log("writing")
		return os.WriteFile(filepath.Join(dir, "file"), []byte(key), 0o600)
	}}
}

// names lists what is in the cache, locks apart.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCacheMakesAPartOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := image.Ensure(t.Context(), dir, nil, writes("disk", "1", &made)); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "disk-1", "file")); err != nil || string(b) != "1" {
				t.Errorf("part holds %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if got, want := made.Load(), int32(1); got != want {
		t.Errorf("made %d times, want %d", got, want)
	}
}

func TestCacheTellsEveryStep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	var made atomic.Int32
	kernel, disk := writes("kernel", "1", &made), writes("disk", "1", &made)
	steps := func() (told []string) {
		err := image.Ensure(t.Context(), dir, func(s image.Step) {
			told = append(told, fmt.Sprintf("%d/%d %s %q %t", s.Number, s.Of, s.Name, s.Log, s.Done))
		}, kernel, disk)
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	want := []string{
		`1/2 make kernel "" false`, `1/2 make kernel "writing" false`, `1/2 make kernel "" true`,
		`2/2 make disk "" false`, `2/2 make disk "writing" false`, `2/2 make disk "" true`,
	}
	if diff := cmp.Diff(want, steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	// From the cache they come without output.
	want = slices.Delete(slices.Delete(want, 4, 5), 1, 2)
	if diff := cmp.Diff(want, steps()); diff != "" {
		t.Errorf("steps from cache (-want +got):\n%s", diff)
	}
	if got := made.Load(); got != 2 {
		t.Errorf("made %d parts, want 2", got)
	}
}

func TestCacheKeepsNothingOfAFailure(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	broken := errors.New("broken")
	var made atomic.Int32
	err := image.Ensure(t.Context(), dir, nil, writes("kernel", "1", &made), image.Part{
		Kind: "disk", Key: "1", Make: func(_ context.Context, part string, _ func(string)) error {
			return errors.Join(os.MkdirAll(filepath.Join(part, "root", "etc"), 0o755), broken)
		},
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if diff := cmp.Diff([]string{"kernel-1"}, names(t, dir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestCacheSweeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	var made atomic.Int32
	if err := image.Ensure(t.Context(), dir, nil, writes("disk", "old", &made), writes("disk", "used", &made), writes("disk", "new", &made)); err != nil {
		t.Fatal(err)
	}
	// What a build leaves whose process is killed.
	if err := os.MkdirAll(filepath.Join(dir, "disk-half.part", "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	past := time.Now().AddDate(0, 0, -31)
	for _, name := range []string{"disk-old", "disk-used"} {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := image.Ensure(t.Context(), dir, nil, writes("disk", "used", &made), writes("disk", "next", &made)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"disk-new", "disk-next", "disk-used"}, names(t, dir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestCacheWaitsForAnotherBuildUntilCancelled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var made atomic.Int32
	if err := image.Ensure(ctx, dir, nil, writes("disk", "1", &made)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
	if got := made.Load(); got != 0 {
		t.Error("made while another build had the cache")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := image.Ensure(t.Context(), dir, nil, writes("disk", "1", &made)); err != nil {
		t.Errorf("after the other build: %v", err)
	}
}
