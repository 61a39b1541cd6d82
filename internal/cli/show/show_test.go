package show_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/client"
	"bulkhead/internal/cli/show"

	"github.com/google/go-cmp/cmp"
)

// tree returns a timeline of snapshots given as "id parent", "" for none.
func tree(head string, all ...string) client.Timeline {
	t := client.Timeline{Head: head}
	for _, s := range all {
		id, parent, _ := strings.Cut(s, " ")
		t.Snapshots = append(t.Snapshots, client.Snapshot{ID: id, Parent: parent, Name: "n" + id, Cause: "manual"})
	}
	return t
}

func draw(t client.Timeline) (lines []string) {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	show.Timeline(w, t)
	w.Flush()
	for _, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n")[1:] {
		tree, _, _ := strings.Cut(line, " n")
		lines = append(lines, tree+" "+line[strings.Index(line, " n")+2:][:1])
	}
	return lines
}

func TestTimeline(t *testing.T) {
	for _, test := range []struct {
		name string
		in   client.Timeline
		want []string
	}{
		{"a line", tree("c", "a", "b a", "c b"), []string{"o a", "o b", "* c"}},
		{"a rollback before the next snapshot", tree("a", "a", "b a"), []string{"* a", "o b"}},
		{"a branch after a rollback", tree("d", "a", "b a", "c a", "d c"),
			[]string{"o a", "|-o b", "o c", "* d"}},
		{"what follows on a branch stays on it", tree("d", "a", "b a", "c b", "d a"),
			[]string{"o a", "|-o b", "| o c", "* d"}},
		{"two branches of one snapshot", tree("d", "a", "b a", "c a", "d a"),
			[]string{"o a", "|-o b", "|-o c", "* d"}},
		{"a branch of a branch", tree("e", "a", "b a", "c b", "d b", "e a"),
			[]string{"o a", "|-o b", "| |-o c", "| o d", "* e"}},
		{"a removed parent", tree("d", "a", "b a", "d x", "e d"), []string{"o a", "o b", "~-* d", "  o e"}},
		{"a removed first", tree("b", "a x", "b a"), []string{"~-o a", "  * b"}},
		{"a removed head", tree("x", "a", "b a"), []string{"o a", "o b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, draw(test.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTimelineOfNothingIsNothing(t *testing.T) {
	var b bytes.Buffer
	show.Timeline(&b, client.Timeline{})
	if b.Len() != 0 {
		t.Errorf("got %q", b.String())
	}
}

func TestLongTimelinesFit80Columns(t *testing.T) {
	straight, branches := client.Timeline{}, client.Timeline{}
	for i := range 3000 {
		s := client.Snapshot{
			ID: fmt.Sprintf("id%030d", i), Name: strings.Repeat("ä", 40), Cause: "before-rollback",
			OwnBytes: 1<<40 - 1, CreatedAt: time.Now().Add(-9999 * 24 * time.Hour),
		}
		if i > 0 {
			s.Parent = fmt.Sprintf("id%030d", i-1)
		}
		straight.Snapshots = append(straight.Snapshots, s)
		branches.Snapshots = append(branches.Snapshots, s)
	}
	for i := range 3000 { // a second child for each, so that the first is a branch
		s := client.Snapshot{ID: fmt.Sprintf("side%d", i), Parent: fmt.Sprintf("id%030d", i), CreatedAt: time.Unix(1e9, 0)}
		branches.Snapshots = append(branches.Snapshots, s)
	}
	for name, tl := range map[string]client.Timeline{"straight": straight, "branches": branches} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
			show.Timeline(w, tl)
			w.Flush()
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if got, want := len(lines), len(tl.Snapshots)+1; got != want {
				t.Errorf("got %d lines, want %d", got, want)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > 80 {
					t.Fatalf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestPlainLeavesTextOnly(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"text", "Debian äöü ğ 日本\n\ttab", "Debian äöü ğ 日本\n\ttab"},
		{"escape sequences", "a\x1b[2Jb\x1b]0;title\x07c\r\b\x1b[38;5;1m\x1b[?25ld\x1b(Be\x1b7f\x1b#8g", "abcdefg"},
		{"command strings to their end", "a\x1b]8;;http://x\x1b\\link\x1bP1$r\x1b\\b\x1b_x\x1b[1mc", "alinkbc"},
		{"sequences that do not end hide a line at most", "a\x1b]0;hidden\nb\x1b[31\nc\x1b\nd", "a\nb\nc\nd"},
		{"sequences that something else ends", "a\x1b[3äb\x1b\x1b[1mc\x1b[\r2Jd", "aäbcd"},
		{"C1 controls", "a\u009b2Jb\u0085", "a2Jb"},
		{"what is no UTF-8", "a\xff\x9b\xc3(", "a("},
		{"changes of direction", "a\u202eb\u2066", "ab"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var whole, pieces bytes.Buffer
			io.WriteString(show.Plain(&whole), test.in)
			w := show.Plain(&pieces)
			for i := range len(test.in) {
				if n, err := w.Write([]byte(test.in[i : i+1])); n != 1 || err != nil {
					t.Fatalf("wrote %d, %v", n, err)
				}
			}
			if got := whole.String(); got != test.want {
				t.Errorf("at once: got %q, want %q", got, test.want)
			}
			if got := pieces.String(); got != test.want {
				t.Errorf("in pieces: got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzPlain: nothing but text comes out, however it comes in, and text is
// left as it is.
func FuzzPlain(f *testing.F) {
	f.Add([]byte("a\x1b[2Jb\x1b]0;title\x07c\r\b\xff\xc3"), 3)
	f.Add([]byte("\x1b]0;\x1b\\\u009b\u202e\ttext\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		plain := func(pieces ...[]byte) string {
			var b bytes.Buffer
			w := show.Plain(&b)
			for _, p := range pieces {
				if n, err := w.Write(p); n != len(p) || err != nil {
					t.Fatalf("wrote %d of %d, %v", n, len(p), err)
				}
			}
			return b.String()
		}
		whole := plain(in)
		for _, r := range whole {
			if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
				t.Fatalf("%q let %q through", in, r)
			}
		}
		if cut = min(max(cut, 0), len(in)); plain(in[:cut], in[cut:]) != whole {
			t.Fatalf("%q in two pieces is %q, not %q", in, plain(in[:cut], in[cut:]), whole)
		}
		if again := plain([]byte(whole)); again != whole {
			t.Fatalf("%q became %q", whole, again)
		}
	})
}

func TestJSONIsPlainToo(t *testing.T) {
	in := map[string]string{"a": "<é\x1b\u009b\u202e\x7f\n\U000e0001\xff>"}
	var line, indented bytes.Buffer
	if err := errors.Join(show.JSON(&line, in, false), show.JSON(&indented, in, true)); err != nil {
		t.Fatal(err)
	}
	if want := `{"a":"\u003cé\u001b\u009b\u202e\u007f\n\udb40\udc01\ufffd\u003e"}` + "\n"; line.String() != want {
		t.Errorf("got %s, want %s", line.String(), want)
	}
	if !strings.HasPrefix(indented.String(), "{\n  \"a\"") {
		t.Errorf("indented: %s", indented.String())
	}
	for _, b := range []bytes.Buffer{line, indented} {
		var back map[string]string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["a"] != strings.ToValidUTF8(in["a"], "\ufffd") {
			t.Errorf("came back as %q, %v", back["a"], err)
		}
	}
	if err := show.JSON(io.Discard, func() {}, false); err == nil {
		t.Error("no error for what is no JSON")
	}
}

func TestOneLine(t *testing.T) {
	if got, want := show.OneLine("\na\nb\x1b[31m\u202e\tc\n"), "a b?[31m? c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestColumnsAreCut(t *testing.T) {
	for in, want := range map[string]string{"": "", "ääää": "ääää", "äääää": "äää~"} {
		if got := show.Clip(in, 4); got != want {
			t.Errorf("Clip(%q): got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"": "", "abc": "abc", "iabcdefgh": "iabcdefg"} {
		if got := show.Short(in); got != want {
			t.Errorf("Short(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	long := strings.Repeat("x", 90)
	for _, test := range []struct{ name, in, want string }{
		{"short text", "a b", "a b"},
		{"nothing", "", ""},
		{"80 columns", strings.Repeat("x", 78) + " y z", strings.Repeat("x", 78) + " y\n  z"},
		{"a word longer than a line", "a " + long + " b", "a\n  " + long + "\n  b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := show.Fold(test.in, "  "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestNumbersAreShort(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 8 << 30: "8.0 GiB", 5 << 50: "5120.0 TiB",
	} {
		if got := show.Bytes(n); got != want {
			t.Errorf("Bytes(%d): got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := show.Age(d); got != want {
			t.Errorf("Age(%v): got %q, want %q", d, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	events := []client.BuildEvent{
		{Step: "install", Number: 1, Of: 2}, {Log: "Get:1 \x1b[1mjq\nx"},
		{Step: "install", Number: 1, Of: 2, Done: true, ElapsedMS: 1234}, {Step: "boot", Number: 2, Of: 2},
	}
	for _, test := range []struct {
		live bool
		want string
	}{
		{false, "[1/2] install                                               1.2 s\n"},
		{true, "\r\x1b[K[1/2] install\r\x1b[K[1/2] install: Get:1 ?[1mjq x\r\x1b[K" +
			"[1/2] install                                               1.2 s\n\r\x1b[K[2/2] boot\r\x1b[K"},
	} {
		var b bytes.Buffer
		p := show.Progress{W: &b, Live: test.live}
		for _, e := range events {
			p.Event(e)
		}
		p.End()
		if got := b.String(); got != test.want {
			t.Errorf("live %v: got %q, want %q", test.live, got, test.want)
		}
	}
}
