package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// do sends a request and returns its status and body.
func do(t *testing.T, a *api, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	// A body of unknown length is sent in chunks, without Content-Length.
	var in io.Reader
	if body != "" {
		in = io.MultiReader(strings.NewReader(body))
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://host"+path, in)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(b), res.Header
}

// recorded is a daemon that writes down what it is asked.
func recorded(calls *[]string) fake {
	call := func(format string, args ...any) { *calls = append(*calls, fmt.Sprintf(format, args...)) }
	box := client.Sandbox{ID: "i1", Name: "web", State: client.StateRunning, CreatedAt: time.Unix(1, 0).UTC()}
	var f fake
	f.fakeSandboxes = fakeSandboxes{
		list: func(context.Context) ([]client.Sandbox, error) { call("list"); return []client.Sandbox{box}, nil },
		create: func(_ context.Context, r client.CreateRequest) (client.Sandbox, error) {
			call("create %s %s %v %v", r.TemplateID, r.Name, r.EnvVars, r.Forever)
			return box, nil
		},
		get:     func(_ context.Context, ref string) (client.Sandbox, error) { call("get %s", ref); return box, nil },
		start:   func(_ context.Context, ref string) (client.Sandbox, error) { call("start %s", ref); return box, nil },
		restart: func(_ context.Context, ref string) (client.Sandbox, error) { call("restart %s", ref); return box, nil },
		remove:  func(_ context.Context, ref string) error { call("remove %s", ref); return nil },
		pause: func(_ context.Context, ref string, r client.PauseRequest) (client.Sandbox, error) {
			call("pause %s %+v", ref, r)
			return box, nil
		},
		resume: func(_ context.Context, ref string, _ client.ResumeRequest) (client.Sandbox, error) {
			call("resume %s", ref)
			return box, nil
		},
		schedule: func(_ context.Context, ref string, r client.Schedule) (client.Sandbox, error) {
			call("schedule %s %+v", ref, r)
			return box, nil
		},
		fork: func(_ context.Context, ref string, r client.ForkRequest) ([]client.Sandbox, []error, error) {
			call("fork %s %s %d", ref, r.Snapshot, r.Count)
			return []client.Sandbox{box}, []error{nil}, nil
		},
	}
	f.fakeSnapshots = fakeSnapshots{
		take: func(_ context.Context, ref string, r client.SnapshotRequest) (client.Snapshot, error) {
			call("take %s %+v", ref, r)
			return client.Snapshot{ID: "s1"}, nil
		},
		remove: func(_ context.Context, ref, snap string) error { call("remove %s of %s", snap, ref); return nil },
		timeline: func(_ context.Context, ref string) (client.Timeline, error) {
			call("timeline %s", ref)
			return client.Timeline{SandboxID: "i1"}, nil
		},
		rollback: func(_ context.Context, ref string, r client.RollbackRequest) (client.RollbackResult, error) {
			call("rollback %s %+v", ref, r)
			return client.RollbackResult{DurationMS: 1.5}, nil
		},
	}
	f.fakeTemplates = fakeTemplates{
		list: func(context.Context) ([]client.Template, error) {
			call("templates")
			return []client.Template{{Name: "base"}}, nil
		},
		remove: func(_ context.Context, name string) error { call("remove template %s", name); return nil },
	}
	f.info = func(context.Context) (client.Info, error) {
		call("info")
		return client.Info{Version: "1", PID: 7}, nil
	}
	return f
}

func TestRoutes(t *testing.T) {
	const box = `{"sandboxID":"i1","name":"web","templateID":"","state":"running","createdAt":"1970-01-01T00:00:01Z",` +
		`"startedAt":"0001-01-01T00:00:00Z","cpuCount":0,"memoryMB":0,"diskSizeMB":0,"accel":"",` +
		`"clientID":"","envdVersion":"","domain":null,"endAt":"0001-01-01T00:00:00Z","lifecycle":{"autoResume":false,"onTimeout":""}}`
	tests := map[string]struct {
		body   string
		status int
		want   string // "" is no body
		call   string
	}{
		"GET /health":       {status: 204},
		"GET /version":      {status: 200, want: `{"version":"1","accel":"","hardwareBoundary":false,"stateDir":"","pid":7,"poolTotal":0,"poolFree":0}`, call: "info"},
		"GET /v2/sandboxes": {status: 200, want: "[" + box + "]", call: "list"},
		"POST /v2/sandboxes": {
			body:   `{"templateID":"base","name":"web","unknown":[1],"envVars":{"A":"b"},"forever":true}`,
			status: 201, want: box, call: "create base web map[A:b] true",
		},
		"GET /sandboxes/web":                      {status: 200, want: box, call: "get web"},
		"DELETE /sandboxes/i1":                    {status: 204, call: "remove i1"},
		"POST /sandboxes/i1/start":                {status: 200, want: box, call: "start i1"},
		"POST /sandboxes/i1/restart":              {status: 200, want: box, call: "restart i1"},
		"POST /sandboxes/i1/pause":                {body: `{"stay":true}`, status: 204, call: "pause i1 {Stay:true UntilBoot:false Memory:<nil>}"},
		"POST /sandboxes/i1/resume":               {status: 201, want: box, call: "resume i1"},
		"PUT /sandboxes/i1/schedule":              {body: `{"everySeconds":900,"keep":{"last":8}}`, status: 200, want: box, call: "schedule i1 {EverySeconds:900 Keep:{Last:8 Hourly:0 Daily:0} IdleSeconds:0 SuspendSeconds:0 KeepAlive:false Wake: ExpiresAt:<nil> Expiry: OnUnhealthy: Before:<nil>}"},
		"POST /sandboxes/i1/fork":                 {body: `{"snapshot":"monday","all":true}`, status: 201, want: `[{"sandbox":` + box + "}]", call: "fork i1 monday 1"},
		"GET /sandboxes/i1/timeline":              {status: 200, want: `{"sandboxID":"i1","snapshots":[]}`, call: "timeline i1"},
		"POST /sandboxes/i1/snapshots":            {body: `{"name":"monday","timeline":true}`, status: 201, want: `{"snapshotID":"s1","names":[],"sandboxID":"","createdAt":"0001-01-01T00:00:00Z","cause":"","stoppedMS":0,"ownBytes":0}`, call: "take i1 {Name:monday Timeline:true Memory:<nil>}"},
		"DELETE /sandboxes/i1/snapshots/monday-2": {status: 204, call: "remove monday-2 of i1"},
		"POST /sandboxes/i1/rollback":             {body: `{"snapshot":"monday"}`, status: 200, want: `"durationMS":1.5}`, call: "rollback i1 {Snapshot:monday Discard:false}"},
		"GET /templates":                          {status: 200, want: `"createdBy":null}]`, call: "templates"},
		"DELETE /templates/base":                  {status: 204, call: "remove template base"},
	}
	for route, tt := range tests {
		t.Run(route, func(t *testing.T) {
			var calls []string
			a := start(t, recorded(&calls))
			method, path, _ := strings.Cut(route, " ")
			status, body, header := do(t, a, method, path, tt.body)
			if got, want := status, tt.status; got != want {
				t.Errorf("status = %d, want %d (%s)", got, want, body)
			}
			if tt.want == "" && body != "" || !strings.HasSuffix(strings.TrimSpace(body), tt.want) {
				t.Errorf("body = %s, want %s", body, tt.want)
			}
			if got, want := strings.Join(calls, "; "), tt.call; got != want {
				t.Errorf("calls = %s, want %s", got, want)
			}
			if len(header.Get("X-Request-Id")) != 16 {
				t.Errorf("request id = %q, want 16 hex digits", header.Get("X-Request-Id"))
			}
		})
	}
}

func TestEmptyBodyIsEmptyRequest(t *testing.T) {
	var calls []string
	a := start(t, recorded(&calls))
	if status, body, _ := do(t, a, "POST", "/sandboxes/i1/rollback", ""); status != 200 {
		t.Errorf("status = %d (%s), want 201", status, body)
	}
	if diff := cmp.Diff([]string{"rollback i1 {Snapshot: Discard:false}"}, calls); diff != "" {
		t.Error(diff)
	}
}

func TestBadRequestsNeverReachTheDaemon(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := map[string]struct {
		route, body string
		status      int
		message     string
	}{
		"an unknown path":         {"GET /nothing", "", 404, `no route GET "/nothing"`},
		"a known path otherwise":  {"PATCH /templates", "", 405, "no route"},
		"a long ref":              {"GET /sandboxes/" + long, "", 400, "is not the id or name of a sandbox"},
		"a ref with a slash":      {"GET /sandboxes/a%2Fb", "", 400, `"a/b" is not the id or name of a sandbox`},
		"a ref with dots":         {"DELETE /sandboxes/%2e%2e%2fetc", "", 400, "is not the id or name"},
		"a ref with an escape":    {"DELETE /sandboxes/a%1b%5b", "", 400, `"a\x1b[" is not the id or name`},
		"a ref in capitals":       {"GET /sandboxes/I1", "", 400, "is not the id or name"},
		"a bad snapshot":          {"DELETE /sandboxes/i1/snapshots/a_b", "", 400, "of a snapshot"},
		"a bad template":          {"DELETE /templates/a.b", "", 400, "is not the name of a template"},
		"broken JSON":             {"POST /v2/sandboxes", "{", 400, "read request body"},
		"JSON of a wrong type":    {"POST /v2/sandboxes", `{"name":1}`, 400, "read request body"},
		"two JSON values":         {"POST /v2/sandboxes", `{}{}`, 400, "read request body"},
		"a huge body":             {"POST /v2/sandboxes", `"` + strings.Repeat("x", 16<<20) + `"`, 400, "larger than 16777216 bytes"},
		"a ref and broken JSON":   {"POST /sandboxes/i1/rollback", "[", 400, "read request body"},
		"a bad ref and snapshot":  {"POST /sandboxes/A/snapshots", "{}", 400, "of a sandbox"},
		"a bad ref and rollback":  {"POST /sandboxes/A/rollback", "{}", 400, "of a sandbox"},
		"a bad ref to start":      {"POST /sandboxes/A/start", "", 400, "of a sandbox"},
		"a bad ref and timeline":  {"GET /sandboxes/A/timeline", "", 400, "of a sandbox"},
		"a bad ref and console":   {"GET /sandboxes/A/console", "", 400, "of a sandbox"},
		"a negative tail":         {"GET /sandboxes/i1/console?tail=-1", "", 400, `tail: "-1" is not a whole number`},
		"a follow of maybe":       {"GET /sandboxes/i1/console?follow=maybe", "", 400, `follow: "maybe" is not 0 or 1`},
		"events since yesterday":  {"GET /events?since=yesterday", "", 400, "is not a whole number"},
		"events of a bad ref":     {"GET /events?sandbox=..", "", 400, "of a sandbox"},
		"events with an odd flag": {"GET /events?follow=2", "", 400, "is not 0 or 1"},
		"a build of broken JSON":  {"POST /templates", "{", 400, "read request body"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls []string
			a := start(t, recorded(&calls))
			method, path, _ := strings.Cut(tt.route, " ")
			status, body, header := do(t, a, method, path, tt.body)
			if got, want := status, tt.status; got != want {
				t.Errorf("status = %d, want %d", got, want)
			}
			var e client.Error
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("body %q: %v", body, err)
			}
			if e.Code != tt.status || !strings.Contains(e.Message, tt.message) {
				t.Errorf("error = %+v, want %d %q", e, tt.status, tt.message)
			}
			if e.RequestID == "" || e.RequestID != header.Get("X-Request-Id") {
				t.Errorf("request id = %q, want that of the header, %q", e.RequestID, header.Get("X-Request-Id"))
			}
			if len(calls) > 0 {
				t.Errorf("calls = %v, want none", calls)
			}
		})
	}
}

func TestErrorsKeepKindHintAndChain(t *testing.T) {
	tests := map[string]struct {
		err  error
		want client.Error
		log  string // level of "request failed"
	}{
		"a fault": {
			fault.New(fault.NotFound, "sandbox %q not found", "x").Hint("bulkhead ls"),
			client.Error{Code: 404, Kind: "not_found", Message: `sandbox "x" not found`, Hint: "bulkhead ls"}, "DEBUG",
		},
		"a fault inside": {
			fmt.Errorf("create sandbox web: %w", fault.New(fault.Exhausted, "pool is full").Hint("bulkhead rm")),
			client.Error{Code: 507, Kind: "exhausted", Message: "create sandbox web: pool is full", Hint: "bulkhead rm"}, "DEBUG",
		},
		"an internal error shows its chain": {
			fmt.Errorf("start VMM: %w", errBoom),
			client.Error{Code: 500, Kind: "internal", Message: "start VMM: boom"}, "ERROR",
		},
		"damage is for the operator": {
			fault.New(fault.Corrupt, "snapshot s1: memory was changed"),
			client.Error{Code: 500, Kind: "corrupt", Message: "snapshot s1: memory was changed"}, "ERROR",
		},
		"a deadline is a timeout": {
			fmt.Errorf("wait for guest: %w", context.DeadlineExceeded),
			client.Error{Code: 504, Kind: "timeout", Message: "wait for guest: context deadline exceeded"}, "DEBUG",
		},
		"text that does not print is defused": {
			fault.New(fault.Invalid, "a\nb\x1b[31m"),
			client.Error{Code: 400, Kind: "invalid", Message: "a; b?[31m"}, "DEBUG",
		},
		"a long text is cut": {
			fault.New(fault.Invalid, "%s", strings.Repeat("x", 5000)),
			client.Error{Code: 400, Kind: "invalid", Message: strings.Repeat("x", 4096) + "..."}, "DEBUG",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var f fake
			f.fakeSandboxes.get = func(context.Context, string) (client.Sandbox, error) { return client.Sandbox{}, tt.err }
			a := start(t, f)
			status, body, header := do(t, a, "GET", "/sandboxes/x", "")
			var got client.Error
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			tt.want.RequestID = header.Get("X-Request-Id")
			if diff := cmp.Diff(tt.want, got); diff != "" || status != got.Code {
				t.Errorf("status %d: %s", status, diff)
			}
			want := fmt.Sprintf(`level=%s msg="request failed" request=%s op="GET /sandboxes/{ref}"`, tt.log, got.RequestID)
			if !strings.Contains(a.log.String(), want) {
				t.Errorf("log = %s\nwant %s", a.log, want)
			}
		})
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	var f fake
	f.fakeSandboxes.list = func(context.Context) ([]client.Sandbox, error) { panic("index out of range") }
	a := start(t, f)
	for range 2 { // the server lives on
		status, body, header := do(t, a, "GET", "/v2/sandboxes", "")
		if status != 500 || !strings.Contains(body, "index out of range") {
			t.Errorf("answer = %d %s, want 500 with what happened", status, body)
		}
		want := `msg="request panicked" request=` + header.Get("X-Request-Id")
		if log := a.log.String(); !strings.Contains(log, want) || !strings.Contains(log, "routes_test.go") {
			t.Errorf("log = %s\nwant %s and the stack", log, want)
		}
	}
}

func TestAccessLineNamesRouteStatusAndRequest(t *testing.T) {
	var calls []string
	a := start(t, recorded(&calls))
	_, _, header := do(t, a, "GET", "/sandboxes/web", "")
	a.stop()
	if err := <-a.done; err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`level=DEBUG msg="request answered" request=%s op="GET /sandboxes/{ref} 200" duration=`, header.Get("X-Request-Id"))
	if !strings.Contains(a.log.String(), want) {
		t.Errorf("log = %s\nwant %s", a.log, want)
	}
}
