package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"unicode"
	"unicode/utf8"

	"bulkhead/internal/audit"

	"github.com/google/go-cmp/cmp"
)

// body is a line up to its hash.
const body = `{"seq":1,"time":"2024-01-01T00:00:00Z","type":"x","prev":"` +
	`0000000000000000000000000000000000000000000000000000000000000000"`

// sign adds the right hash to a line.
func sign(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(body + `,"hash":"` + hex.EncodeToString(sum[:]) + `"}`)
}

// FuzzDecode: a line is either refused or carries the hash of its bytes.
// Every input is tried with a right hash too, so that the JSON is reached.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{body, "", "{", `{"seq":-1`, `{"seq":1e99`, `{"prev":"zz"`, `{"prev":[]`, body[:40]} {
		f.Add([]byte(seed))
		f.Add(sign(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, l := range [][]byte{line, sign(string(line))} {
			_, err := audit.Decode(l)
			if err != nil {
				continue
			}
			i := bytes.LastIndex(l, []byte(`,"hash":"`))
			if i < 0 || !bytes.Equal(sign(string(l[:i])), l) {
				t.Errorf("line without the right hash was taken: %q", l)
			}
		}
	})
}

// FuzzOpen: whatever the newest segment holds, Open refuses it or goes on
// with a log that takes events and gives them back.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(sign(body), '\n'))
	f.Add(append(append(sign(body), '\n'), sign(body)...))
	f.Add([]byte("\n\n\x00\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(audit.Options{Dir: dir, Clock: clock()})
		if err != nil {
			return
		}
		defer closeLog(t, l)
		before, _ := l.Head()
		e := add(t, l, "x", "", nil)
		if before > 0 {
			return // lines that Verify objects to may stand before the last
		}
		if diff := cmp.Diff([]audit.Event{e}, read(t, l, audit.Query{Since: e.Seq - 1})); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzAppend: no text of a guest gets into the log other than short and
// printable, and it comes back as it was recorded.
func FuzzAppend(f *testing.F) {
	for _, seed := range []string{"", "a", "\x1b[31m", "\xff\xfe", "a\u2028b", `\`, `"`, "\U000e0001"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, id, value string) {
		l := open(t, t.TempDir(), 0)
		want := add(t, l, "x", id, map[string]string{"a": value, "b": audit.Quote(value)})
		for e, err := range l.Read(t.Context(), audit.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, e); diff != "" {
				t.Error(diff)
			}
			for _, s := range []string{e.SandboxID, e.Fields["a"], e.Fields["b"]} {
				checkPrintable(t, s)
			}
		}
	})
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if len(s) > 512 || !utf8.ValidString(s) {
		t.Errorf("%q is long or not UTF-8", s)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			t.Errorf("%q has a control character", s)
		}
	}
}
