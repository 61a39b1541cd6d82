package input_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

// line is a connection with a deadline, and what comes on it.
type line struct {
	http.ResponseWriter
	io.Reader
	until time.Time
	err   error // instead of a read that has a deadline
}

func (l *line) SetReadDeadline(t time.Time) error {
	l.until = t
	return nil
}

func (l *line) Read(p []byte) (int, error) {
	if l.until.IsZero() {
		return 0, errors.New("read for ever")
	}
	if l.err != nil {
		return 0, l.err
	}
	return l.Reader.Read(p)
}

func TestBodiesHaveAnEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		content string
		err     error
		want    fault.Kind // "" for a body that is read
	}{
		"whole":        {"0123", nil, ""},
		"one too big":  {"01234", nil, fault.Invalid},
		"one too slow": {"", os.ErrDeadlineExceeded, fault.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			open := func() (*line, *http.Request) {
				l := &line{ResponseWriter: httptest.NewRecorder(), Reader: strings.NewReader(tt.content), err: tt.err}
				return l, httptest.NewRequest(http.MethodPost, "/", io.NopCloser(l))
			}
			l, r := open()
			b, err := input.Body(l, r, input.Bounds{Most: 4, Within: time.Hour})
			if (err != nil || string(b) != tt.content) != (tt.want != "") || err != nil && !fault.Is(err, tt.want) {
				t.Errorf("read %q, %v, want %s", b, err, tt.want)
			}
			if l.until.IsZero() == (err != nil) {
				t.Errorf("the deadline is %v after %v", l.until, err)
			}
			if tt.want == fault.Invalid {
				return // what is passed on has no size
			}
			l, r = open()
			input.Steady(l, r, time.Hour)
			b, err = io.ReadAll(r.Body)
			if string(b) != tt.content || err != nil && !fault.Is(err, tt.want) {
				t.Errorf("passed on %q, %v, want %s", b, err, tt.want)
			}
			if l.until.IsZero() == (err != nil) {
				t.Errorf("the deadline is %v after %v", l.until, err)
			}
		})
	}
}
