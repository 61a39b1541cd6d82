package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/audit"

	"github.com/google/go-cmp/cmp"
)

// TestOpenAfterTearAnywhereInLastLine cuts the log at every byte of its last
// line, as a power cut may, and fills the lost part with zeros, as a file
// system may.
func TestOpenAfterTearAnywhereInLastLine(t *testing.T) {
	const before = 3
	dir := t.TempDir()
	l := open(t, dir, 0)
	events := fill(t, l, before+1)
	closeLog(t, l)
	whole, err := os.ReadFile(segments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1

	for cut := start; cut <= len(whole); cut++ {
		zeros := make([]byte, len(whole)-cut)
		tests := map[string][]byte{
			"cut":            whole[:cut],
			"zeros":          append(bytes.Clone(whole[:cut]), zeros...),
			"zeros and more": append(bytes.Clone(whole[:cut]), append(zeros, "\n\x00\n"...)...),
		}
		for name, content := range tests {
			t.Run(fmt.Sprintf("%s at %d", name, cut-start), func(t *testing.T) {
				kept := before
				if cut == len(whole) {
					kept++
				}
				good := start
				if kept > before {
					good = len(whole)
				}
				testTorn(t, content, events[:kept], len(content)-good)
			})
		}
	}
}

// testTorn opens a log with the given content and wants the kept events,
// one about what was cut off, and a chain that goes on.
func testTorn(t *testing.T, content []byte, kept []audit.Event, cut int) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir, 0)
	last := add(t, l, "daemon.started", "", nil)
	got := read(t, l, audit.Query{})
	if cut > 0 {
		if len(got) != len(kept)+2 {
			t.Fatalf("events = %+v, want %d and 2 more", got, len(kept))
		}
		note := got[len(kept)]
		if note.Type != "audit.cut" || note.Fields["bytes"] != fmt.Sprint(cut) {
			t.Errorf("note = %+v, want %d bytes cut off", note, cut)
		}
		got = append(got[:len(kept)], last)
	}
	if diff := cmp.Diff(append(kept[:len(kept):len(kept)], last), got); diff != "" {
		t.Error(diff)
	}
	if _, err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenAfterTearInNewSegment(t *testing.T) {
	for _, torn := range []string{"", `{"seq":`, strings.Repeat("x", 70<<10)} {
		t.Run(fmt.Sprintf("%d bytes", len(torn)), func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, 600)
			want := fill(t, l, 2)
			closeLog(t, l)
			if got := len(segments(t, dir)); got != 1 {
				t.Fatalf("segments = %d, want 1", got)
			}
			appendTo(t, filepath.Join(dir, "00000000000000000003.jsonl"), torn)

			l = open(t, dir, 600)
			want = append(want, add(t, l, "x", "", nil))
			got := read(t, l, audit.Query{})
			if torn != "" {
				if note := got[2]; note.Type != "audit.cut" || !strings.HasPrefix(note.Fields["start"], audit.Quote(torn)[:5]) {
					t.Errorf("note = %+v, want the start of what was torn", note)
				}
				got = append(got[:2], got[3:]...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := l.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
