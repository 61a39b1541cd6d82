package audit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/audit"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// clock returns a clock that moves one second with every look.
func clock() func() time.Time {
	var mu sync.Mutex
	now := time.Unix(1700000000, 42)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

func open(t *testing.T, dir string, segmentBytes int64) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Options{Dir: dir, Clock: clock(), SegmentBytes: segmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t *testing.T, l *audit.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func add(t *testing.T, l *audit.Log, typ, id string, fields map[string]string) audit.Event {
	t.Helper()
	e, err := l.Append(typ, id, fields)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fill appends n events of two sandboxes in turn.
func fill(t *testing.T, l *audit.Log, n int) []audit.Event {
	t.Helper()
	var all []audit.Event
	for i := range n {
		id := fmt.Sprintf("i%d", i%2)
		all = append(all, add(t, l, "sandbox.created", id, map[string]string{"n": fmt.Sprint(i)}))
	}
	return all
}

// read returns the events that fit q.
func read(t *testing.T, l *audit.Log, q audit.Query) []audit.Event {
	t.Helper()
	var all []audit.Event
	for e, err := range l.Read(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// segments returns the paths of a log's files, oldest first.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A log has a bound. What is left of it is a chain, and reads as one.
func TestOldestSegmentsGo(t *testing.T) {
	dir := t.TempDir()
	l, err := audit.Open(audit.Options{Dir: dir, Clock: clock(), SegmentBytes: 1, Segments: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	all := fill(t, l, 10)
	if n := len(segments(t, dir)); n != 3 {
		t.Errorf("%d segments are left", n)
	}
	if diff := cmp.Diff(all[7:], read(t, l, audit.Query{})); diff != "" {
		t.Error(diff)
	}
	if r, err := l.Verify(t.Context()); err != nil || r.First != 8 || r.Last != 10 {
		t.Errorf("verified %+v, %v", r, err)
	}
}

func TestAppendIsReadAgainAfterReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir, 0)
	want := fill(t, l, 3)
	closeLog(t, l)
	closeLog(t, l) // repeating it is no error

	l = open(t, dir, 0)
	want = append(want, add(t, l, "daemon.started", "", nil))
	if diff := cmp.Diff(want, read(t, l, audit.Query{})); diff != "" {
		t.Error(diff)
	}
	for i, e := range want {
		if got, want := e.Seq, uint64(i+1); got != want {
			t.Errorf("seq = %d, want %d", got, want)
		}
	}
	seq, hash := l.Head()
	report, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(audit.Report{First: 1, Last: seq, Hash: hash}, report); diff != "" {
		t.Error(diff)
	}
	for _, path := range append(segments(t, dir), dir) {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm() & 0o077; got != 0 {
			t.Errorf("others may do %o to %s", got, path)
		}
	}
}

func TestAppendBoundsAndQuotes(t *testing.T) {
	long := strings.Repeat("é", 1000)
	tests := map[string]struct{ in, want string }{
		"plain text stays":            {"exit status 1", "exit status 1"},
		"printable Unicode stays":     {"naïve ☃", "naïve ☃"},
		"a terminal escape is quoted": {"\x1b]0;x\a", `"\x1b]0;x\a"`},
		"a line break is quoted":      {"a\n{\"seq\":1}", `"a\n{\"seq\":1}"`},
		"text direction is quoted":    {"a\u202eb", `"a\u202eb"`},
		"broken UTF-8 is quoted":      {"a\xffb", `"a\xffb"`},
		"long text is cut":            {long, strings.Repeat("é", 254) + "..."},
		"long escapes are cut":        {strings.Repeat("\x1b", 9999), `"` + strings.Repeat(`\x1b`, 125) + `..."`},
		"what Quote made stays":       {audit.Quote(strings.Repeat("\n", 9999)), audit.Quote(strings.Repeat("\n", 9999))},
	}
	l := open(t, t.TempDir(), 0)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := add(t, l, "x", tt.in, map[string]string{"v": tt.in})
			if got, want := e.Fields["v"], tt.want; got != want {
				t.Errorf("value = %s, want %s", got, want)
			}
			if len(e.SandboxID) > 512 || strings.ContainsAny(e.SandboxID, "\n\x1b") {
				t.Errorf("sandbox id %q is not bounded", e.SandboxID)
			}
			events := read(t, l, audit.Query{Since: e.Seq - 1})
			if diff := cmp.Diff([]audit.Event{e}, events); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAppendTakesLargestEvent(t *testing.T) {
	l := open(t, t.TempDir(), 0)
	fields := map[string]string{}
	for i := range 16 {
		key := fmt.Sprintf("k%02d", i)
		key += strings.Repeat("x", 64-len(key))
		fields[key] = strings.Repeat("<", 1000) // six bytes each in JSON
	}
	add(t, l, "t"+strings.Repeat("x", 63), strings.Repeat("<", 1000), fields)
	if _, err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAppendRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range 17 {
		many[fmt.Sprintf("k%d", i)] = ""
	}
	tests := map[string]struct {
		typ    string
		fields map[string]string
	}{
		"no type":              {"", nil},
		"a type in capitals":   {"Sandbox", nil},
		"a type of two lines":  {"a\nb", nil},
		"a long type":          {strings.Repeat("a", 65), nil},
		"a key with a space":   {"x", map[string]string{"a b": ""}},
		"a long key":           {"x", map[string]string{strings.Repeat("a", 65): ""}},
		"more than 16 fields":  {"x", many},
		"a key that is not us": {"x", map[string]string{"é": ""}},
	}
	l := open(t, t.TempDir(), 0)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := l.Append(tt.typ, "", tt.fields); err == nil {
				t.Error("Append succeeded")
			}
		})
	}
	if seq, _ := l.Head(); seq != 0 {
		t.Errorf("events = %d, want none", seq)
	}
}

func TestConcurrentAppendsMakeOneChain(t *testing.T) {
	l := open(t, t.TempDir(), 4<<10)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 20 {
				if _, err := l.Append("x", "", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	report, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := report.Last, uint64(160); got != want {
		t.Errorf("events = %d, want %d", got, want)
	}
}

func TestSegmentsEndAtTheirSize(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	want := fill(t, l, 20)
	closeLog(t, l)
	paths := segments(t, dir)
	if len(paths) < 3 {
		t.Fatalf("segments = %v, want several", paths)
	}
	for _, p := range paths {
		if fi, err := os.Stat(p); err != nil || fi.Size() > 1000 {
			t.Errorf("%s: %v, %v; want at most 1000 bytes", p, fi.Size(), err)
		}
	}
	// One line is larger than a segment: it gets one of its own.
	l = open(t, dir, 100)
	want = append(want, fill(t, l, 2)...)
	if diff := cmp.Diff(want, read(t, l, audit.Query{})); diff != "" {
		t.Error(diff)
	}
	if _, err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenGoesOnWithoutOlderSegments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 1000)
	all := fill(t, l, 20)
	closeLog(t, l)
	paths := segments(t, dir)
	for _, p := range paths[:len(paths)-1] {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, dir, 1000)
	all = append(all, add(t, l, "x", "", nil))
	report, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all[report.First-1:], read(t, l, audit.Query{})); diff != "" {
		t.Error(diff)
	}
	if report.First == 1 || report.Last != 21 {
		t.Errorf("report = %+v, want a later first event and 21 as the last", report)
	}
}

func TestAppendAfterCloseFails(t *testing.T) {
	l := open(t, t.TempDir(), 0)
	closeLog(t, l)
	if _, err := l.Append("x", "", nil); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Append = %v, want %v", err, audit.ErrClosed)
	}
}

func TestFullDiskLosesNothingAndHeals(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, filepath.Join(dir, "audit"), 0)
	var err error
	var kept uint64
	for err == nil && kept < 10000 {
		if _, err = l.Append("x", "", nil); err == nil {
			kept++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append on a full disk = %v, want %v", err, syscall.ENOSPC)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if e := add(t, l, "x", "", nil); e.Seq != kept+1 {
		t.Errorf("seq after the disk was full = %d, want %d", e.Seq, kept+1)
	}
	if _, err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesWhatItCannotGoOnFrom(t *testing.T) {
	full := func(t *testing.T, dir string) []string {
		l := open(t, dir, 1000)
		fill(t, l, 10)
		closeLog(t, l)
		return segments(t, dir)
	}
	tests := map[string]func(t *testing.T, dir string){
		"much damage at the end": func(t *testing.T, dir string) {
			paths := full(t, dir)
			appendTo(t, paths[len(paths)-1], strings.Repeat("x\n", 1<<20))
		},
		"an empty newest segment after a torn one": func(t *testing.T, dir string) {
			paths := full(t, dir)
			if err := os.Truncate(paths[len(paths)-1], 0); err != nil {
				t.Fatal(err)
			}
			appendTo(t, paths[len(paths)-2], "torn")
		},
		"an empty newest segment alone": func(t *testing.T, dir string) {
			appendTo(t, filepath.Join(dir, "00000000000000000009.jsonl"), "")
		},
		"an empty newest segment after a gap": func(t *testing.T, dir string) {
			full(t, dir)
			appendTo(t, filepath.Join(dir, "00000000000000009999.jsonl"), "")
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			damage(t, dir)
			_, err := audit.Open(audit.Options{Dir: dir, Clock: clock()})
			if got, want := fault.KindOf(err), fault.Corrupt; got != want {
				t.Errorf("kind of %v = %q, want %q", err, got, want)
			}
		})
	}
}

func appendTo(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
