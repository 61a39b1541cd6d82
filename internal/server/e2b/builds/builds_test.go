package builds_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/e2b/builds"

	"github.com/google/go-cmp/cmp"
)

var hash = strings.Repeat("0a", 32)

// world has the templates base, of the host, and team/own, and remembers what it
// is asked.
type world struct {
	asked   any
	build   builds.Build
	entries []builds.Entry
	err     error
}

func (w *world) Find(_ context.Context, names ...string) (client.Template, error) {
	for _, name := range names {
		if name == "base" || name == "team/own" {
			return client.Template{Name: name, Public: name == "base"}, nil
		}
	}
	return client.Template{}, fault.New(fault.NotFound, "template not found")
}

func (w *world) Request(_ context.Context, r builds.Request) (builds.Build, error) {
	w.asked = r
	return w.build, w.err
}

func (w *world) Grant(_ context.Context, f builds.Files) (bool, string, error) {
	w.asked = f
	return true, "t&k", w.err
}

func (w *world) Receive(_ context.Context, token string, f builds.Files, length int64, body io.Reader) error {
	b, err := io.ReadAll(body)
	w.asked = fmt.Sprint(token, f, length, string(b), err)
	return w.err
}

func (w *world) Start(_ context.Context, which builds.Which, r builds.Recipe) error {
	w.asked = []any{which, r}
	return w.err
}

func (w *world) Get(_ context.Context, which builds.Which) (builds.Build, error) {
	w.asked = which
	return w.build, w.err
}

func (w *world) Entries(_ context.Context, _ builds.Which, level string) ([]builds.Entry, error) {
	var all []builds.Entry
	for _, e := range w.entries {
		if level != "error" || e.Level == level {
			all = append(all, e)
		}
	}
	return all, nil
}

// ask sends a request of the team "team", and returns status, or kind of error,
// and body.
func (w *world) ask(t *testing.T, method, target, body string) (status string, answer map[string]any) {
	t.Helper()
	api := &builds.API{Builder: w, Templates: w}
	mux := http.NewServeMux()
	for pattern, do := range api.Routes() {
		mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
			reply, err := do(r)
			if err != nil {
				status = string(fault.KindOf(err))
				return
			}
			status = fmt.Sprint(reply.Status)
			b, err := json.Marshal(reply.Body)
			if err == nil {
				err = json.Unmarshal(b, &answer)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r = r.WithContext(auth.With(r.Context(), auth.Principal{Team: "team", Scope: auth.Operate}))
	mux.ServeHTTP(httptest.NewRecorder(), r)
	return status, answer
}

func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		body, status string
		want         builds.Request
	}{
		{`{"name":"Web"}`, "202", builds.Request{Team: "team", Template: "web", Tags: []string{"default"}}},
		{`{"name":"web:v1","cpuCount":2,"memoryMB":1024}`, "202", builds.Request{Team: "team", Template: "web", Tags: []string{"v1"}, CPUs: 2, MemoryMiB: 1024}},
		{`{"alias":"team/web","tags":["v1","v2","v1"]}`, "202", builds.Request{Team: "team", Template: "web", Tags: []string{"v1", "v2"}}},
		{`{"name":"web:v1","tags":["v2"]}`, "202", builds.Request{Team: "team", Template: "web", Tags: []string{"v1", "v2"}}},
		{`{"name":"own"}`, "202", builds.Request{Team: "team", Template: "own", Tags: []string{"default"}}},
		{`{"name":"base:v2"}`, "202", builds.Request{Team: "team", Template: "base", Tags: []string{"v2"}}},
		{body: `{}`, status: "invalid"},
		{body: `{"name":"a/b/c"}`, status: "invalid"},
		{body: `{"name":"other/web"}`, status: "invalid"},
		{body: `{"name":"web","tags":["../x"]}`, status: "invalid"},
		{body: `{"name":"../web"}`, status: "invalid"},
		{body: `{"name":"base"}`, status: "exists"},
		{body: `{"name":"web","minFreeDiskMb":100}`, status: "unsupported"},
		{body: `{"name":"web","cpuCount":"two"}`, status: "invalid"},
	} {
		w := &world{build: builds.Build{ID: "b1", Status: "waiting"}}
		status, answer := w.ask(t, "POST", "/v3/templates", tt.body)
		if status != tt.status {
			t.Errorf("%s: %s, want %s", tt.body, status, tt.status)
			continue
		}
		if status != "202" {
			if w.asked != nil {
				t.Errorf("%s: asked for %v", tt.body, w.asked)
			}
			continue
		}
		if diff := cmp.Diff(any(tt.want), w.asked); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", tt.body, diff)
		}
		if answer["templateID"] != tt.want.Template || answer["buildID"] != "b1" {
			t.Errorf("%s: %v", tt.body, answer)
		}
	}
}

func TestGrant(t *testing.T) {
	w := &world{}
	status, answer := w.ask(t, "GET", "http://host:3000/templates/web/files/"+hash, "")
	if want := "http://host:3000/templates/web/files/" + hash + "?token=t%26k"; status != "201" || answer["present"] != true || answer["url"] != want {
		t.Errorf("%s %v, want %s", status, answer, want)
	}
	if diff := cmp.Diff(any(builds.Files{Team: "team", Template: "web", Hash: hash}), w.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	api := &builds.API{Builder: w, Templates: w}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://host/", nil)
	r.TLS = &tls.ConnectionState{}
	r.SetPathValue("template", "web")
	reply, err := api.Routes()["GET /templates/{template}/files/{hash}"](r)
	if body, _ := json.Marshal(reply.Body); err != nil || !strings.Contains(string(body), `"url":"https://host/`) {
		t.Errorf("by TLS: %s, %v", body, err)
	}
	if status, _ := w.ask(t, "GET", "/templates/other%2Fweb/files/"+hash, ""); status != "not_found" {
		t.Errorf("another team's: %s", status)
	}
}

func TestReceive(t *testing.T) {
	w := &world{}
	api := &builds.API{Builder: w, Templates: w}
	mux := http.NewServeMux()
	mux.HandleFunc(builds.Upload, func(rw http.ResponseWriter, r *http.Request) {
		if err := api.Receive(rw, r); err != nil {
			rw.WriteHeader(http.StatusForbidden)
		}
	})
	for _, err := range []error{nil, fault.New(fault.Denied, "no")} {
		w.err = err
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "PUT", "/templates/web/files/"+hash+"?token="+url.QueryEscape("t&k"), strings.NewReader("archive")))
		if want := "t&k{ web " + hash + "} 7archive<nil>"; w.asked != want || (rec.Code == http.StatusOK) != (err == nil) {
			t.Errorf("%d, asked %v, want %s", rec.Code, w.asked, want)
		}
	}
}

func TestStart(t *testing.T) {
	w := &world{}
	body := `{"fromTemplate":"OWN","force":true,"startCmd":"s","readyCmd":"r","steps":[{"type":"COPY","args":["a","b","",""],"filesHash":"` + hash + `","force":false,"gzip":true,"resolveSymlinks":null}]}`
	if status, _ := w.ask(t, "POST", "/v2/templates/web/builds/b1", body); status != "202" {
		t.Errorf("status %s", status)
	}
	want := []any{builds.Which{Team: "team", Template: "web", Build: "b1"}, builds.Recipe{
		Template: "team/own", Force: true, Start: "s", Ready: "r",
		Steps: []builds.Step{{Type: "COPY", Args: []string{"a", "b", "", ""}, FilesHash: hash}},
	}}
	if diff := cmp.Diff(any(want), w.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	image := `{"fromImage":"nginx","fromImageRegistry":{"type":"registry","username":"u","password":"p"}}`
	if status, _ := w.ask(t, "POST", "/v2/templates/web/builds/b1", image); status != "202" {
		t.Errorf("status %s", status)
	}
	want[1] = builds.Recipe{Image: "nginx", Registry: client.Registry{Type: "registry", Username: "u", Password: "p"}}
	if diff := cmp.Diff(any(want), w.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	for body, want := range map[string]string{
		`{"fromTemplate":"other/secret"}`: "not_found",
		`{"fromTemplate":"none"}`:         "not_found",
		`{"fromTemplate":"a b"}`:          "invalid",
		`{"steps":{}}`:                    "invalid",
	} {
		if status, _ := w.ask(t, "POST", "/v2/templates/web/builds/b1", body); status != want {
			t.Errorf("%s: %s, want %s", body, status, want)
		}
	}
}

// said is what a build has said: n entries, one a second, every tenth of an error
// at step 2.
func said(n int) (all []builds.Entry) {
	for i := range n {
		e := builds.Entry{Timestamp: time.Unix(int64(i), 0).UTC(), Message: fmt.Sprint(i), Level: "info", Step: "1"}
		if i%10 == 9 {
			e.Level, e.Step = "error", "2"
		}
		all = append(all, e)
	}
	return all
}

func messages(t *testing.T, v any) string {
	t.Helper()
	var all []string
	list, ok := v.([]any)
	if !ok {
		t.Fatalf("%v is no list", v)
	}
	for _, e := range list {
		all = append(all, fmt.Sprint(e.(map[string]any)["message"]))
	}
	return strings.Join(all, " ")
}

func TestStatusPages(t *testing.T) {
	w := &world{build: builds.Build{ID: "b1", Status: "ready"}, entries: said(250)}
	const path = "/templates/web/builds/b1/status"
	all, offset := "", 0
	for {
		status, answer := w.ask(t, "GET", fmt.Sprint(path, "?logsOffset=", offset), "")
		if status != "200" || answer["status"] != "ready" || answer["reason"] != nil {
			t.Fatalf("%s %v", status, answer)
		}
		page := answer["logEntries"].([]any)
		if len(page) > 100 {
			t.Errorf("a page has %d entries", len(page))
		}
		if len(page) == 0 {
			break
		}
		offset += len(page)
		all += messages(t, page) + " "
	}
	if offset != 250 || !strings.HasPrefix(all, "0 1 2 ") || !strings.HasSuffix(all, " 248 249 ") {
		t.Errorf("%d entries: %s", offset, all)
	}
	for query, want := range map[string]string{
		"?limit=2&logsOffset=3":              "3 4",
		"?level=error&limit=3":               "9 19 29",
		"?level=error&limit=3&logsOffset=24": "249",
		"?limit=0":                           "",
		"?logsOffset=1000":                   "",
	} {
		if _, answer := w.ask(t, "GET", path+query, ""); messages(t, answer["logEntries"]) != want {
			t.Errorf("%s: %v, want %s", query, answer["logEntries"], want)
		}
	}
	for _, query := range []string{"?limit=101", "?logsOffset=-1", "?logsOffset=x", "?level=loud"} {
		if status, _ := w.ask(t, "GET", path+query, ""); status != "invalid" {
			t.Errorf("%s: %s", query, status)
		}
	}
}

func TestStatusTellsWhy(t *testing.T) {
	w := &world{build: builds.Build{ID: "b1", Status: "error", Message: "exit status 3", Step: "2"}, entries: said(250)}
	_, answer := w.ask(t, "GET", "/templates/web/builds/b1/status", "")
	why := answer["reason"].(map[string]any)
	if got := messages(t, why["logEntries"]); why["message"] != "exit status 3" || why["step"] != "2" || !strings.HasPrefix(got, "59 69 ") || !strings.HasSuffix(got, " 249") {
		t.Errorf("reason is %v", why)
	}
	w.err = fault.New(fault.NotFound, "build not found")
	if status, _ := w.ask(t, "GET", "/templates/web/builds/b1/status", ""); status != "not_found" {
		t.Errorf("status %s", status)
	}
}

func TestLogs(t *testing.T) {
	w := &world{entries: said(12)}
	for query, want := range map[string]string{
		"?limit=3":                                "0 1 2",
		"?cursor=4000&limit=2":                    "4 5",
		"?direction=backward&limit=2":             "11 10",
		"?direction=backward&cursor=4000&limit=2": "4 3",
		"?level=error":                            "9",
	} {
		if _, answer := w.ask(t, "GET", "/templates/web/builds/b1/logs"+query, ""); messages(t, answer["logs"]) != want {
			t.Errorf("%s: %v, want %s", query, answer["logs"], want)
		}
	}
}

func TestPatch(t *testing.T) {
	w := &world{}
	for _, tt := range []struct{ template, body, want string }{
		{"own", `{"public":false}`, "200"},
		{"own", `{"public":true}`, "unsupported"},
		{"none", `{"public":false}`, "not_found"},
		{"base", `{"public":false}`, "not_found"}, // the host's is not the team's to change
	} {
		if status, _ := w.ask(t, "PATCH", "/v2/templates/"+tt.template, tt.body); status != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.template, tt.body, status, tt.want)
		}
	}
}
