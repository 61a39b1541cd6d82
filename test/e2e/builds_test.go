package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/test/harness"
)

// oven builds templates by recipes, as clients of E2B do.
type oven struct {
	t    *testing.T
	h    *harness.Host
	http *http.Client
}

func newOven(t *testing.T, h *harness.Host) *oven {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &oven{t, h, &http.Client{Transport: tr}}
}

// ask sends a request, whose answer must have a status, and reads that into v.
func (o *oven) ask(want int, method, path string, body, v any) {
	o.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		o.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(o.t.Context(), method, "http://host"+path, bytes.NewReader(b))
	if err != nil {
		o.t.Fatal(err)
	}
	resp, err := o.http.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		o.t.Fatal(err)
	}
	if resp.StatusCode != want {
		o.t.Fatalf("%s %s: %s %s, want %d", method, path, resp.Status, answer.String(), want)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(answer.Bytes(), v); err != nil {
		o.t.Fatal(err)
	}
}

// start starts a build of RUN steps on the template base, and returns the path of
// it.
func (o *oven) start(name string, commands ...string) (path string) {
	o.t.Helper()
	steps := []map[string]any{}
	for _, c := range commands {
		steps = append(steps, map[string]any{"type": "RUN", "args": []string{c, "root"}})
	}
	return o.startFrom(name, map[string]any{"fromTemplate": "base", "steps": steps})
}

// startFrom starts a build by a recipe.
func (o *oven) startFrom(name string, recipe map[string]any) (path string) {
	o.t.Helper()
	var b struct{ TemplateID, BuildID string }
	o.ask(202, "POST", "/v3/templates", map[string]any{"name": name}, &b)
	o.ask(202, "POST", "/v2/templates/"+b.TemplateID+"/builds/"+b.BuildID, recipe, nil)
	return "/templates/" + b.TemplateID + "/builds/" + b.BuildID
}

// state is what a build is told to be.
type state struct {
	Status     string
	LogEntries []struct{ Message, Step string }
	Reason     struct{ Message, Step string }
}

func (s state) says(message string) bool {
	return slices.ContainsFunc(s.LogEntries, func(e struct{ Message, Step string }) bool { return e.Message == message })
}

func (o *oven) state(path string) (s state) {
	o.t.Helper()
	o.ask(200, "GET", path+"/status", nil, &s)
	return s
}

// await waits until a build is as it should be.
func (o *oven) await(path string, is func(state) bool) state {
	o.t.Helper()
	limit := time.NewTimer(harness.Patience)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s := o.state(path)
		if is(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-limit.C:
			o.t.Fatalf("build is %+v\n%s", s, o.h.LogTail(4<<10))
		}
	}
}

func over(s state) bool { return s.Status == "ready" || s.Status == "error" }

// A build that the daemon's end comes into has failed and leaves no machine; what
// it had kept by then is there for the next one. Build machines talk to nobody
// but whom any new sandbox may talk to.
func TestDaemonKilledDuringBuild(t *testing.T) {
	h := harness.New(t).Base()
	o := newOven(t, h)
	const kept = "! getent hosts secrets.example.org && ! curl -fsS -m 20 http://198.51.100.1/ && echo kept > /srv/kept"
	path := o.start("cake", kept, "echo under way; sleep 100000")
	o.await(path, func(s state) bool { return s.says("under way") || over(s) })
	if s := o.state(path); s.Status != "building" {
		t.Fatalf("build is %+v", s)
	}
	h.Kill()
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	s := o.state(path)
	if s.Status != "error" || s.Reason.Message != "the daemon ended while it was under way" || !s.says("under way") {
		t.Errorf("build is %+v", s)
	}
	for _, dir := range []string{"pool/machines", "run"} {
		left, err := os.ReadDir(filepath.Join(h.Dir, dir))
		if err != nil || len(left) > 0 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
	if ls := h.Must("template", "ls"); strings.Contains(ls, "cake") {
		t.Errorf("templates are\n%s", ls)
	}
	if events := h.Must("events", "--kind", "build"); !strings.Contains(events, "build.failed") {
		t.Errorf("events are\n%s", events)
	}

	again := o.start("cake", kept, "cat /srv/kept")
	if s := o.await(again, over); s.Status != "ready" || !s.says("CACHED [1/2] RUN "+kept) || !s.says("kept") {
		t.Errorf("build is %+v", s)
	}
	if ls := h.Must("template", "ls"); !strings.Contains(ls, "default/cake") {
		t.Errorf("templates are\n%s", ls)
	}
	h.Must("create", "cake", "--name", "eater")
	t.Cleanup(func() { h.Must("rm", "-f", "eater") })
	if got := h.Box("eater").Sh("cat /srv/kept"); got != "kept" {
		t.Errorf("sandbox has %q", got)
	}
}

// What a team may have under way is bounded, and a build ends with the daemon.
func TestBuildsAreBounded(t *testing.T) {
	h := harness.New(t, "--limits-team-builds", "1").Base()
	o := newOven(t, h)
	path := o.start("one", "echo under way; sleep 100000")
	o.await(path, func(s state) bool { return s.says("under way") || over(s) })
	var b struct{ TemplateID, BuildID string }
	o.ask(202, "POST", "/v3/templates", map[string]any{"name": "two"}, &b)
	two := fmt.Sprintf("/v2/templates/%s/builds/%s", b.TemplateID, b.BuildID)
	o.ask(429, "POST", two, map[string]any{"fromTemplate": "base"}, nil)
	o.ask(409, "POST", "/v2"+path, map[string]any{"fromTemplate": "base"}, nil)
	h.Stop()
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	if s := o.state(path); s.Status != "error" || s.Reason.Message != "the daemon is shutting down" {
		t.Errorf("build is %+v", s)
	}
	o.ask(202, "POST", two, map[string]any{"fromTemplate": "base"}, nil)
	if s := o.await("/templates/two/builds/"+b.BuildID, over); s.Status != "ready" {
		t.Errorf("build is %+v", s)
	}
}
