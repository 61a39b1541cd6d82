package audit_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/audit"
	"bulkhead/internal/fault"
)

// write makes a log of some lines in one segment.
func write(t *testing.T, lines ...[]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	content := bytes.Join(lines, nil)
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sample returns the lines of a log of n events.
func sample(t *testing.T, n int, typ string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir, 0)
	for range n {
		add(t, l, typ, "i1", nil)
	}
	closeLog(t, l)
	b, err := os.ReadFile(segments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return bytes.SplitAfter(b[:len(b)-1], []byte("\n"))
}

func TestVerifyFindsFirstBrokenLine(t *testing.T) {
	a, b := sample(t, 4, "a"), sample(t, 4, "b")
	a[3], b[3] = append(a[3], '\n'), append(b[3], '\n')
	tests := map[string]struct {
		lines [][]byte
		line  int
	}{
		"a line is missing":               {[][]byte{a[0], a[2], a[3]}, 2},
		"the first line is missing":       {[][]byte{a[1], a[2]}, 1},
		"two lines changed places":        {[][]byte{a[0], a[2], a[1], a[3]}, 2},
		"a line appears twice":            {[][]byte{a[0], a[1], a[1]}, 3},
		"a line of another log":           {[][]byte{a[0], a[1], b[2], a[3]}, 3},
		"a line written anew":             {[][]byte{a[0], b[1], a[2]}, 2},
		"a line that is too long":         {[][]byte{a[0], bytes.Repeat([]byte("x"), 1<<17), []byte("\n"), a[1]}, 2},
		"an empty line":                   {[][]byte{a[0], []byte("\n"), a[1]}, 2},
		"a torn last line":                {[][]byte{a[0], a[1][:50]}, 2},
		"a last line without its newline": {[][]byte{a[0], a[1][:len(a[1])-1]}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := audit.Verify(t.Context(), write(t, tt.lines...))
			var broken *audit.BrokenError
			if !errors.As(err, &broken) || !fault.Is(err, fault.Corrupt) {
				t.Fatalf("Verify = %v, want a broken line of kind %s", err, fault.Corrupt)
			}
			if got, want := broken.Line, tt.line; got != want {
				t.Errorf("%v: line %d, want %d", err, got, want)
			}
		})
	}
}

// TestVerifyFindsEveryChangedByte flips one bit of each byte in turn.
func TestVerifyFindsEveryChangedByte(t *testing.T) {
	whole := append(bytes.Join(sample(t, 3, "x"), nil), '\n')
	path := filepath.Join(write(t), "00000000000000000001.jsonl")
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := audit.Verify(t.Context(), filepath.Dir(path))
		var broken *audit.BrokenError
		if !errors.As(err, &broken) {
			t.Fatalf("byte %d: Verify = %v, want a broken line", i, err)
		}
		if got, want := broken.Line, 1+bytes.Count(whole[:i], []byte("\n")); got != want {
			t.Errorf("byte %d: line %d, want %d", i, got, want)
		}
	}
}

func TestVerifyOfUsedLogFindsMissingEnd(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	fill(t, l, 20)
	paths := segments(t, dir)
	newest := paths[len(paths)-1]
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	if err := os.Truncate(newest, int64(last)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "ends with event 19, event 20 was written") {
		t.Errorf("Verify = %v, want the missing event 20", err)
	}
	if _, err := audit.Verify(t.Context(), dir); err != nil {
		t.Errorf("Verify without knowing the end = %v", err)
	}
}

func TestVerifyFindsMissingSegment(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	fill(t, l, 20)
	paths := segments(t, dir)
	if err := os.Remove(paths[1]); err != nil {
		t.Fatal(err)
	}
	_, err := l.Verify(t.Context())
	var broken *audit.BrokenError
	if !errors.As(err, &broken) || broken.Segment != filepath.Base(paths[2]) {
		t.Errorf("Verify = %v, want %s to be the first that does not fit", err, paths[2])
	}
}

func TestVerifyOfNothing(t *testing.T) {
	if r, err := audit.Verify(t.Context(), t.TempDir()); err != nil || r.Last != 0 {
		t.Errorf("Verify of an empty folder = %+v, %v", r, err)
	}
	if _, err := audit.Verify(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("Verify of no folder succeeded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(ctx, write(t, sample(t, 2, "x")...)); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify under a cancelled context = %v", err)
	}
}
