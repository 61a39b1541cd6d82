package record_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe/record"

	"github.com/google/go-cmp/cmp"
)

// lab is a folder of builds with a clock.
type lab struct {
	dir      string
	now      time.Time
	happened []string
}

func (l *lab) open(t *testing.T) *record.Book {
	t.Helper()
	b, err := record.Open(t.Context(), l.dir, func() time.Time { return l.now }, func(_ context.Context, b record.Build) {
		l.happened = append(l.happened, b.Template+" "+string(b.State))
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newLab(t *testing.T) *lab {
	return &lab{dir: filepath.Join(t.TempDir(), "builds"), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func add(t *testing.T, b *record.Book, team, template string) string {
	t.Helper()
	build, err := b.Add(t.Context(), record.Build{Team: team, Template: template, Tags: []string{"default"}})
	if err != nil {
		t.Fatal(err)
	}
	return build.ID
}

func move(t *testing.T, b *record.Book, id string, events ...record.Event) {
	t.Helper()
	for _, e := range events {
		if _, err := b.Move(t.Context(), id, e, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNext(t *testing.T) {
	for _, from := range []record.State{record.Waiting, record.Building, record.Ready, record.Failed} {
		for _, event := range []record.Event{record.Start, record.Finish, record.Fail} {
			want, ok := map[string]record.State{
				"waiting start": record.Building, "building finish": record.Ready, "waiting fail": record.Failed, "building fail": record.Failed,
			}[string(from)+" "+string(event)]
			got, err := record.Next(from, event)
			if (err == nil) != ok || ok && got != want || err != nil && (!fault.Is(err, fault.WrongState) || got != from) {
				t.Errorf("%s, %s: got %s, %v, want %q", from, event, got, err, want)
			}
		}
	}
}

func TestBuildsOutliveTheDaemon(t *testing.T) {
	l := newLab(t)
	b := l.open(t)
	waits, under, done := add(t, b, "a", "waits"), add(t, b, "a", "under"), add(t, b, "b", "done")
	move(t, b, under, record.Start)
	move(t, b, done, record.Start, record.Finish)
	for _, junk := range []string{"junk", "00000000-0000-4000-8000-000000000000"} {
		if err := os.MkdirAll(filepath.Join(l.dir, junk), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l.happened = nil

	b = l.open(t)
	if diff := cmp.Diff([]string{"under error"}, l.happened); diff != "" {
		t.Errorf("happened (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		team, template, id string
		want               record.State
	}{{"a", "waits", waits, record.Waiting}, {"a", "under", under, record.Failed}, {"b", "done", done, record.Ready}} {
		got, err := b.Get(tt.team, tt.template, tt.id)
		if err != nil || got.State != tt.want || (got.Reason != nil) != (tt.want == record.Failed) {
			t.Errorf("%s: got %+v, %v, want %s", tt.template, got, err, tt.want)
		}
	}
	for _, who := range [][3]string{{"b", "waits", waits}, {"a", "under", waits}, {"a", "waits", "../waits"}} {
		if _, err := b.Get(who[0], who[1], who[2]); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v: got %v, want that it is not found", who, err)
		}
	}
	if left, err := os.ReadDir(l.dir); err != nil || len(left) != 3 {
		t.Errorf("folder has %v, %v", left, err)
	}
	if !b.Known("a", "waits") || b.Known("b", "waits") {
		t.Error("whose templates are built is not known")
	}
	if n := b.Count("a"); n[record.Waiting] != 1 || n[record.Failed] != 1 {
		t.Errorf("counts are %v", n)
	}
}

func TestSweep(t *testing.T) {
	l := newLab(t)
	b := l.open(t)
	late := add(t, b, "a", "late")
	var over []string
	for i := range 102 {
		id := add(t, b, "a", fmt.Sprint("t", i))
		l.now = l.now.Add(time.Minute)
		move(t, b, id, record.Start, record.Finish)
		over = append(over, id)
	}
	other := add(t, b, "b", "other")
	move(t, b, other, record.Start, record.Finish)
	l.now = l.now.Add(24 * time.Hour)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get("a", "late", late); err != nil || got.State != record.Failed {
		t.Errorf("what nobody started is %+v, %v", got, err)
	}
	for i, id := range over {
		if _, err := b.Get("a", fmt.Sprint("t", i), id); (err == nil) != (i >= 2) {
			t.Errorf("build %d: %v", i, err)
		}
	}
	l.now = l.now.Add(8 * 24 * time.Hour)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(l.dir); err != nil || len(left) != 0 {
		t.Errorf("folder has %v, %v", left, err)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                         "plain",
		"\x1b[1;31mred\x1b[0m":          "red",
		"a\tb\x00\x07c\x1b]0;title\x07": "a bc]0;title",
		"\x9b31mC1 \xff\xfe":            "31mC1 ",
		"\u202eevil\u200b":              "evil",
		"\x1b[31":                       "",
		"\x1b[3\nx":                     "x",
		"größe ✓":                       "größe ✓",
	} {
		if got := record.Plain(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := record.Plain(strings.Repeat("x", 1<<20)); len(got) != 2<<10 {
		t.Errorf("a long line has %d bytes", len(got))
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("\x1b[1;31mred\x1b[0m\r\n")
	f.Add("\x1b[\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := record.Plain(s)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) || len(got) > 2<<10+4 {
			t.Errorf("%q has become %q", s, got)
		}
		if record.Plain(got) != got {
			t.Errorf("%q is not plain yet", got)
		}
	})
}

func TestOutput(t *testing.T) {
	l := newLab(t)
	b := l.open(t)
	id := add(t, b, "a", "t")
	log, err := b.Log(id)
	if err != nil {
		t.Fatal(err)
	}
	out := &record.Output{Log: log, Level: record.Info, Step: "3"}
	for _, part := range []string{"fir", "st\nsecond\r\n\n10%\r20%\r", "last"} {
		if n, err := out.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("took %d, %v", n, err)
		}
	}
	out.Flush()
	log.Say(record.Debug, "4", "whisper")
	log.Say(record.Error, "", "cry")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := b.Entries(id, record.Debug)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range all {
		lines = append(lines, string(e.Level)+" "+e.Step+" "+e.Message)
	}
	want := []string{"info 3 first", "info 3 second", "info 3 10%", "info 3 20%", "info 3 last", "debug 4 whisper", "error  cry"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if all, err = b.Entries(id, record.Warn); err != nil || len(all) != 1 || all[0].Message != "cry" {
		t.Errorf("what matters is %v, %v", all, err)
	}
	if all, err := b.Entries(add(t, b, "a", "silent"), record.Debug); len(all) != 0 || err != nil {
		t.Errorf("a build without a log has said %v, %v", all, err)
	}
}

// A guest that writes without end fills no disk.
func TestLogIsBounded(t *testing.T) {
	l := newLab(t)
	b := l.open(t)
	for _, line := range []string{"x", strings.Repeat("long", 1000)} {
		id := add(t, b, "a", "t")
		log, err := b.Log(id)
		if err != nil {
			t.Fatal(err)
		}
		out := &record.Output{Log: log, Level: record.Info}
		for range 20_000 {
			out.Write([]byte(line + "\n"))
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(l.dir, id, "log"))
		if err != nil || fi.Size() > 5<<20 {
			t.Errorf("log is %v, %v", fi, err)
		}
		all, err := b.Entries(id, record.Debug)
		if err != nil || len(all) > 10_000 || all[len(all)-1].Message != "further output is left out" {
			t.Errorf("%d entries, %v", len(all), err)
		}
	}
}

func TestLogThatIsBeingWritten(t *testing.T) {
	l := newLab(t)
	b := l.open(t)
	id := add(t, b, "a", "t")
	whole := `{"t":"2026-01-01T00:00:00Z","l":"info","m":"whole"}` + "\n"
	if err := os.WriteFile(filepath.Join(l.dir, id, "log"), []byte(whole+`{"t":"2026-`), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := b.Entries(id, record.Debug)
	if err != nil || !slices.Equal([]string{"whole"}, messages(all)) {
		t.Errorf("got %v, %v", all, err)
	}
}

func messages(all []record.Entry) (m []string) {
	for _, e := range all {
		m = append(m, e.Message)
	}
	return m
}
