package inject

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const value = "sk-abcabcabd-99"

// pieces gives one piece for each Read.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

func TestMask(t *testing.T) {
	stars := strings.Repeat("*", len(value))
	for _, tt := range []struct {
		name   string
		in     []string
		want   string
		echoes int
	}{
		{"nothing", []string{"plain ", "text"}, "plain text", 0},
		{"in the middle", []string{"a " + value + " b"}, "a " + stars + " b", 1},
		{"in two pieces", []string{"a sk-abcabc", "abd-99 b"}, "a sk-a" + stars[4:] + " b", 1},
		{"the beginning of one before it", []string{"sk-abcsk-abcabcabd-99"}, "sk-abc" + stars, 1},
		{"twice", []string{value + value}, stars + stars, 2},
		{"only a beginning", []string{"sk-abcabc", "x"}, "sk-abcabcx", 0},
		{"cut off", []string{"sk-abcabcabd"}, "sk-abcabcabd", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			echoes := 0
			m := newMask([]needle{{value, "s"}}, func(string) { echoes++ })
			in := pieces(tt.in)
			got, err := io.ReadAll(m.reader(&in))
			if err != nil || string(got) != tt.want || echoes != tt.echoes {
				t.Errorf("got %q, %d echoes, %v; want %q, %d", got, echoes, err, tt.want, tt.echoes)
			}
		})
	}
}

// However a stream is cut into pieces, its length stays and no more of a
// secret passes than its first bytes.
func FuzzMask(f *testing.F) {
	f.Add([]byte("data: sk-abcabcabd-99\n\n"), uint8(3))
	f.Add([]byte("sk-abcabcsk-abcabcabd-99sk-sk-abcabcabd-99"), uint8(1))
	f.Add([]byte("c2stYWJjYWJjYWJkLTk5"), uint8(9))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		m := newMask([]needle{{value, "s"}, {"c2stYWJjYWJjYWJkLTk5", "s"}}, func(string) {})
		got, err := io.ReadAll(m.reader(&chunked{in, int(size)%40 + 1}))
		if err != nil || len(got) != len(in) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(in), err)
		}
		for i := 0; ; i++ {
			at := bytes.Index(in[i:], []byte(value))
			if at < 0 {
				break
			}
			i += at
			if rest := got[i+told : i+len(value)]; strings.Trim(string(rest), "*") != "" {
				t.Fatalf("%q of the secret passes", rest)
			}
		}
	})
}

type chunked struct {
	b    []byte
	size int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.size, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

func TestMaskErrors(t *testing.T) {
	m := newMask([]needle{{value, "s"}}, func(string) {})
	got, err := io.ReadAll(m.reader(io.MultiReader(strings.NewReader("before sk-abcabc"), iotest.ErrReader(io.ErrUnexpectedEOF))))
	if string(got) != "before sk-abcabc" || err != io.ErrUnexpectedEOF {
		t.Errorf("got %q, %v", got, err)
	}
}
