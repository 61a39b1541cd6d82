package inside_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/inside"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/test/leak"
)

// world is the sandbox i1 with a snapshot, and writes down what is asked.
type world struct {
	mu    sync.Mutex
	asked []string
	fails error
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf(format, args...))
}

func (w *world) Timeline(ref string) (sandbox.Sandbox, []pool.Snapshot, error) {
	return sandbox.Sandbox{}, []pool.Snapshot{{ID: "s1", Meta: pool.Meta{Name: "monday", Cause: "manual"}}}, w.fails
}

func (w *world) SnapshotFor(_ context.Context, ref string, why sandbox.Why) (pool.Snapshot, error) {
	w.note("snapshot %s %s %d", ref, why.Cause, why.Keep.Last)
	return pool.Snapshot{ID: "s2"}, w.fails
}

func (w *world) Rollback(_ context.Context, ref, snapshot string, discard bool) (sandbox.RolledBack, error) {
	w.note("rollback %s %s %v", ref, snapshot, discard)
	return sandbox.RolledBack{}, nil
}

// bench serves w and returns what asks it, as the guest would.
func bench(t *testing.T, w *world, may ...string) (ask func(method, path, body string) (int, string), s *inside.Service) {
	t.Helper()
	leak.Check(t)
	s = &inside.Service{
		Sandboxes: w, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Event: func(_ context.Context, typ, id string, _ map[string]string) { w.note("event %s %s", typ, id) },
	}
	allowed := func(what string) bool { return strings.Contains(strings.Join(may, " "), what) }
	return func(method, path, body string) (int, string) {
		t.Helper()
		ours, theirs := net.Pipe()
		served := make(chan struct{})
		go func() {
			s.Serve(t.Context(), "i1", allowed, theirs)
			close(served)
		}()
		c := &http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return ours, nil },
			DisableKeepAlives: true,
		}}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://bulkhead.internal"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ours.Close()
		<-served
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}, s
}

func TestAsks(t *testing.T) {
	w := &world{}
	ask, s := bench(t, w, "timeline", "snapshot", "rollback")
	for _, tt := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/timeline", "", 200, `"name":"monday"`},
		{"POST", "/snapshot", "", 201, `"snapshotID":"s2"`},
		{"POST", "/rollback", `{"snapshot":"monday"}`, 202, `"snapshotID":"s1"`},
		{"POST", "/rollback", `{"snapshot":"other"}`, 404, "no such snapshot"},
		{"POST", "/rollback", `{`, 400, "not understood"},
		{"POST", "/rollback", strings.Repeat("x", 1<<20), 400, "not understood"},
		{"DELETE", "/timeline", "", 405, ""},
		{"GET", "/etc/passwd", "", 404, ""},
	} {
		if status, text := ask(tt.method, tt.path, tt.body); status != tt.status || !strings.Contains(text, tt.text) {
			t.Errorf("%s %s: %d, %q", tt.method, tt.path, status, text)
		}
	}
	s.Wait()
	want := "snapshot i1 inside 8; event inside.rollback i1; rollback i1 s1 false"
	if got := strings.Join(w.asked, "; "); got != want {
		t.Errorf("asked is %s, want %s", got, want)
	}
}

func TestNotAllowed(t *testing.T) {
	w := &world{}
	ask, _ := bench(t, w, "timeline")
	for _, path := range []string{"/snapshot", "/rollback"} {
		if status, text := ask("POST", path, `{"snapshot":"s1"}`); status != 403 || !strings.Contains(text, "does not allow") {
			t.Errorf("%s: %d, %q", path, status, text)
		}
	}
	if status, _ := ask("GET", "/timeline", ""); status != 200 {
		t.Errorf("what is allowed: %d", status)
	}
	if len(w.asked) > 0 {
		t.Errorf("asked is %v", w.asked)
	}
}

// Somebody who asks without end gets so much of it.
func TestTooOften(t *testing.T) {
	w := &world{}
	ask, s := bench(t, w, "snapshot", "rollback")
	got := map[int]int{}
	for range 40 {
		status, _ := ask("POST", "/snapshot", "")
		got[status]++
	}
	for range 10 {
		status, _ := ask("POST", "/rollback", `{"snapshot":"s1"}`)
		got[status]++
	}
	s.Wait()
	if got[201] != 30 || got[202] != 6 || got[429] != 14 {
		t.Errorf("the answers are %v", got)
	}
}

// What went wrong on the host is not the guest's to know.
func TestErrorsSayNothing(t *testing.T) {
	for kind, status := range map[error]int{
		fault.New(fault.Exhausted, "pool /var/lib/secret is full"): 429,
		fmt.Errorf("open /var/lib/secret: denied"):                 500,
	} {
		w := &world{fails: kind}
		ask, _ := bench(t, w, "snapshot", "timeline")
		for _, req := range []string{"GET /timeline", "POST /snapshot"} {
			method, path, _ := strings.Cut(req, " ")
			if got, text := ask(method, path, ""); got != status || strings.Contains(text, "secret") {
				t.Errorf("%s: %d, %q", req, got, text)
			}
		}
	}
}
