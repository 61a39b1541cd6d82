package overview_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/page/overview"
)

// source answers what its fields say.
type source struct {
	sandboxes []client.Sandbox
	doing     func(ctx context.Context, id string) ([]string, error)
	pending   []client.EgressQuestion
}

func (s *source) Sandboxes(context.Context) ([]client.Sandbox, error)      { return s.sandboxes, nil }
func (s *source) Traffic(string) (int, int, error)                         { return 3, 1, nil }
func (s *source) Newest(string) (*client.SnapshotMark, error)              { return nil, nil }
func (s *source) Pending(context.Context) ([]client.EgressQuestion, error) { return s.pending, nil }
func (s *source) Host(context.Context) (client.HostLoad, error)            { return client.HostLoad{CPUs: 2}, nil }
func (s *source) Doing(ctx context.Context, id string) ([]string, error) {
	if s.doing == nil {
		return nil, nil
	}
	return s.doing(ctx, id)
}

// world is a sampler with a clock and what its processes have had.
type world struct {
	*overview.Sampler
	src source
	now time.Time
	cpu time.Duration
}

func newWorld() *world {
	w := &world{now: time.Unix(1e9, 0)}
	w.src.sandboxes = []client.Sandbox{{ID: "ia", Name: "otter", State: client.StateRunning, VMM: &client.VMM{PID: 1}, MemoryUsedMB: 100}}
	w.Sampler = &overview.Sampler{
		Source: &w.src, ProcessorTime: func(int) (time.Duration, error) { return w.cpu, nil },
		LastEvent: func() uint64 { return 7 }, Clock: func() time.Time { return w.now },
	}
	return w
}

// pass lets time pass, in which the machine takes this share of a CPU.
func (w *world) pass(d time.Duration, share float64) {
	w.now = w.now.Add(d)
	w.cpu += time.Duration(float64(d) * share)
}

func (w *world) look(t *testing.T) client.Activity {
	t.Helper()
	o, err := w.Look(t.Context(), w.now)
	if err != nil {
		t.Fatal(err)
	}
	return o.Sandboxes[0]
}

func TestHourOfLoad(t *testing.T) {
	w := newWorld()
	w.look(t)
	w.pass(10*time.Second, 0.5)
	if got := w.look(t).CPUPercent; got != 50 {
		t.Errorf("%v %% of a CPU, want 50", got)
	}
	for range 30 * 6 {
		w.pass(10*time.Second, 0.25)
		if err := w.Record(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	hour := w.look(t).Hour
	if len(hour) != 60 || hour[59].CPUPercent != 25 || hour[40].MemoryMB != 100 || hour[10].CPUPercent != 0 {
		t.Errorf("hour %+v", hour)
	}
	// Nothing is kept of a time in which nobody looked.
	w.pass(3*time.Hour, 0)
	for i, l := range w.look(t).Hour[:59] {
		if l.CPUPercent != 0 {
			t.Errorf("minute %d: %+v", i, l)
		}
	}
}

func TestAnotherProcessTakesNothingYet(t *testing.T) {
	w := newWorld()
	w.look(t)
	w.pass(10*time.Second, 1)
	w.src.sandboxes[0].VMM = &client.VMM{PID: 2}
	if got := w.look(t).CPUPercent; got != 0 {
		t.Errorf("a process that has just begun takes %v %%", got)
	}
}

func TestWatchersShareASample(t *testing.T) {
	w := newWorld()
	asked := 0
	w.src.doing = func(context.Context, string) ([]string, error) { asked++; return []string{"make"}, nil }
	for range 5 {
		if _, err := w.Look(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("the guest was asked %d times", asked)
	}
	happened := w.now
	w.now = w.now.Add(time.Millisecond)
	if _, err := w.Look(t.Context(), happened); err != nil || asked != 2 {
		t.Errorf("after something has happened it was asked %d times, %v", asked, err)
	}
}

func TestGuestsWordsAreBounded(t *testing.T) {
	w := newWorld()
	w.src.doing = func(context.Context, string) ([]string, error) {
		return []string{strings.Repeat("é", 1000), "b", "c", "d", "e"}, nil
	}
	got := w.look(t).Doing
	if len(got) != 3 || len(got[0]) > 200 {
		t.Errorf("%d commands, the first of %d bytes", len(got), len(got[0]))
	}
	w.src.doing = func(context.Context, string) ([]string, error) { return nil, errors.New("silent") }
	if got := w.look(t).Doing; got == nil || len(got) != 0 {
		t.Errorf("a guest that does not answer does %q", got)
	}
}

// A stream tells of events as they come, and of what changes with them, to each
// what is for them.
func TestStream(t *testing.T) {
	w := newWorld()
	w.src.sandboxes = append(w.src.sandboxes, client.Sandbox{ID: "ib", Team: "other", Name: "theirs"})
	w.src.pending = []client.EgressQuestion{{SandboxID: "ib", Destination: "secret.example:443"}}
	events := make(chan client.Event)
	since := make(chan uint64, 2)
	live := &overview.Live{Sampler: w.Sampler, Events: func(ctx context.Context, after uint64) iter.Seq2[client.Event, error] {
		since <- after
		return func(yield func(client.Event, error) bool) {
			for {
				select {
				case e := <-events:
					if !yield(e, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx := auth.With(r.Context(), auth.Principal{Team: "default", Scope: auth.Read, Key: "k", Sandbox: "ia"})
		if err := live.Stream(rw, r.WithContext(ctx)); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "5")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := <-since; got != 5 {
		t.Errorf("events after %d, want 5", got)
	}
	lines := bufio.NewScanner(resp.Body)
	kind, data := next(t, lines)
	var o client.Overview
	if err := json.Unmarshal([]byte(data), &o); err != nil || kind != "overview" {
		t.Fatalf("first comes %s %s: %v", kind, data, err)
	}
	if len(o.Sandboxes) != 1 || o.Sandboxes[0].Name != "otter" || len(o.Pending) != 0 || o.Host.CPUs != 0 {
		t.Errorf("the watcher of one sandbox sees %s", data)
	}
	events <- client.Event{Seq: 8, Type: "sandbox.paused"}
	if kind, data := next(t, lines); kind != "audit" || !strings.Contains(data, "sandbox.paused") {
		t.Errorf("then comes %s %s", kind, data)
	}
}

// next reads a server-sent event.
func next(t *testing.T, lines *bufio.Scanner) (kind, data string) {
	t.Helper()
	for lines.Scan() {
		line := lines.Text()
		if k, ok := strings.CutPrefix(line, "event: "); ok {
			kind = k
		}
		if d, ok := strings.CutPrefix(line, "data: "); ok {
			data = d
		}
		if line == "" && kind != "" {
			return kind, data
		}
	}
	t.Fatalf("the stream ends: %v", errors.Join(lines.Err(), io.EOF))
	return "", ""
}
