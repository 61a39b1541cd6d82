package e2b_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
)

func built() []client.Template {
	return []client.Template{{ID: "base", Name: "base", BuildStatus: "ready", Public: true}}
}

func TestCreate(t *testing.T) {
	for name, tt := range map[string]struct {
		op, body string
		status   int
		says     string
		check    func(client.CreateRequest) string
	}{
		"the second generation says next to nothing": {"POST /v2/sandboxes", `{"templateID":"base"}`, 201, "", func(r client.CreateRequest) string {
			return fmt.Sprint(*r.Timeout)
		}},
		"the first generation lives shorter": {"POST /sandboxes", `{"templateID":"Base:default"}`, 201, "", func(r client.CreateRequest) string {
			return fmt.Sprint(*r.Timeout)
		}},
		"our own client wants it for ever":     {"POST /v2/sandboxes", `{"templateID":"base","forever":true}`, 201, "", nil},
		"no template":                          {"POST /v2/sandboxes", `{}`, 400, "is not the name of a template", nil},
		"an unknown template":                  {"POST /v2/sandboxes", `{"templateID":"none"}`, 404, `template \"none\" not found`, nil},
		"no time":                              {"POST /v2/sandboxes", `{"templateID":"base","timeout":0}`, 400, "timeout of 0", nil},
		"too much time":                        {"POST /v2/sandboxes", `{"templateID":"base","timeout":2147483647}`, 400, "timeout of", nil},
		"a cold pause that nobody asks for":    {"POST /v2/sandboxes", `{"templateID":"base","autoPauseMemory":false}`, 400, "needs autoPause", nil},
		"a cold pause that is to wake":         {"POST /v2/sandboxes", `{"templateID":"base","autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}}`, 400, "autoResume", nil},
		"an MCP gateway":                       {"POST /v2/sandboxes", `{"templateID":"base","mcp":{"a":{}}}`, 501, "mcp: ", nil},
		"no MCP gateway":                       {"POST /v2/sandboxes", `{"templateID":"base","mcp":null,"iam":null}`, 201, "", nil},
		"identity":                             {"POST /v2/sandboxes", `{"templateID":"base","iam":{"tokens":{}}}`, 501, "iam: ", nil},
		"volumes":                              {"POST /v2/sandboxes", `{"templateID":"base","volumeMounts":[{"name":"a","path":"/a"}]}`, 501, "volumeMounts: ", nil},
		"a proxy of its own":                   {"POST /v2/sandboxes", `{"templateID":"base","network":{"egressProxy":{"address":"a:1"}}}`, 403, "egressProxy: ", nil},
		"headers that are added":               {"POST /v2/sandboxes", `{"templateID":"base","network":{"rules":{"a":[]}}}`, 501, "rules: ", nil},
		"a Host that is none":                  {"POST /v2/sandboxes", `{"templateID":"base","network":{"maskRequestHost":"a b"}}`, 400, "maskRequestHost: ", nil},
		"a Host with a port":                   {"POST /v2/sandboxes", `{"templateID":"base","network":{"maskRequestHost":"localhost:${PORT}"}}`, 201, "", nil},
		"private ports, but open to everybody": {"POST /sandboxes", `{"templateID":"base","network":{"allowPublicTraffic":false}}`, 400, "needs secure", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{templates: built()}
			status, body, _ := serve(t, w, owner())(tt.op, tt.body)
			if status != tt.status || !strings.Contains(body, tt.says) {
				t.Fatalf("%d %s", status, body)
			}
			if tt.check == nil {
				return
			}
			want := map[string]string{"POST /v2/sandboxes": "300", "POST /sandboxes": "15"}[tt.op]
			if got := tt.check(w.created); got != want {
				t.Errorf("asked for %s, want %s", got, want)
			}
		})
	}
}

func TestNetworkOfItsOwnNeedsAdmin(t *testing.T) {
	ask := serve(t, &world{templates: built()}, auth.Principal{Team: "a", Scope: auth.Operate})
	if status, body, _ := ask("POST /v2/sandboxes", `{"templateID":"base","network":{"denyOut":["1.1.1.1"]}}`); status != 403 {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := ask("POST /v2/sandboxes", `{"templateID":"base","allow_internet_access":false}`); status != 201 {
		t.Errorf("%d %s", status, body)
	}
}

// crowd is sandboxes of every kind, the oldest first.
func crowd() []client.Sandbox {
	box := func(i int, state client.State, label string) client.Sandbox {
		return client.Sandbox{
			ID: fmt.Sprintf("i%d", i), State: state, TemplateID: "base", StartedAt: start().Add(time.Duration(i) * time.Second),
			Metadata: map[string]string{"a b": label},
		}
	}
	return []client.Sandbox{
		box(1, client.StateRunning, "c&d"), box(2, client.StatePaused, "c&d"), box(3, client.StateCrashed, "c&d"),
		box(4, client.StateSuspended, "e"), box(5, client.StateRollingBack, "c&d"), box(6, client.StateRemoving, "e"),
	}
}

func ids(all []client.Sandbox) string {
	var s []string
	for _, b := range all {
		s = append(s, b.ID)
	}
	return strings.Join(s, " ")
}

func TestList(t *testing.T) {
	for name, tt := range map[string]struct {
		op     string
		status int
		want   string
	}{
		"newest first":                {"GET /v2/sandboxes", 200, "i5 i4 i2 i1"},
		"oldest first":                {"GET /v2/sandboxes?order=asc", 200, "i1 i2 i4 i5"},
		"those that run":              {"GET /v2/sandboxes?state=running", 200, "i5 i4 i1"},
		"those that are paused":       {"GET /v2/sandboxes?state=paused", 200, "i2"},
		"both":                        {"GET /v2/sandboxes?state=running,paused", 200, "i5 i4 i2 i1"},
		"every one, for our client":   {"GET /v2/sandboxes?state=any", 200, "i6 i5 i4 i3 i2 i1"},
		"the first generation's":      {"GET /sandboxes", 200, "i5 i4 i1"},
		"labels, escaped twice":       {"GET /v2/sandboxes?metadata=a%252520b%3Dc%252526d", 200, "i5 i2 i1"},
		"labels, of the first ones":   {"GET /sandboxes?metadata=a%252520b%3De", 200, "i4"},
		"labels that none has":        {"GET /v2/sandboxes?metadata=x%3Dy", 200, ""},
		"started after":               {"GET /v2/sandboxes?startedAfter=" + url.QueryEscape(start().Add(4*time.Second).Format(time.RFC3339Nano)), 200, "i5 i4"},
		"of a template":               {"GET /v2/sandboxes?template=base", 200, "i5 i4 i2 i1"},
		"of an unknown template":      {"GET /v2/sandboxes?template=none", 200, ""},
		"of a template with a tag":    {"GET /v2/sandboxes?template=base:v1", 400, ""},
		"a state that there is not":   {"GET /v2/sandboxes?state=crashed", 400, ""},
		"an order that there is not":  {"GET /v2/sandboxes?order=up", 400, ""},
		"too many":                    {"GET /v2/sandboxes?limit=101", 400, ""},
		"none":                        {"GET /v2/sandboxes?limit=0", 400, ""},
		"a token that was made up":    {"GET /v2/sandboxes?nextToken=AAAA", 400, ""},
		"labels that are not escaped": {"GET /v2/sandboxes?metadata=%25zz", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, header := serve(t, &world{boxes: crowd()}, owner())(tt.op, "")
			if status != tt.status {
				t.Fatalf("%d %s", status, body)
			}
			if status != 200 {
				return
			}
			if got := ids(read[[]client.Sandbox](t, body)); got != tt.want {
				t.Errorf("list is %s, want %s", got, tt.want)
			}
			if header.Get("X-Next-Token") != "" {
				t.Error("there is another page")
			}
			if strings.Contains(tt.op, "state=paused") != (header.Get("X-Total-Running") == "") && strings.Contains(tt.op, "/v2") {
				t.Errorf("total running is %q", header.Get("X-Total-Running"))
			}
		})
	}
}

func TestPages(t *testing.T) {
	for _, order := range []string{"desc", "asc"} {
		w := &world{boxes: crowd()}
		ask := serve(t, w, owner())
		var got []string
		token := ""
		for range 10 {
			status, body, header := ask("GET /v2/sandboxes?limit=1&order="+order+"&nextToken="+url.QueryEscape(token), "")
			if status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			got = append(got, ids(read[[]client.Sandbox](t, body)))
			if token = header.Get("X-Next-Token"); token == "" {
				break
			}
			if len(got) == 2 { // what goes meanwhile does no harm
				w.boxes = slices.DeleteFunc(w.boxes, func(s client.Sandbox) bool { return s.ID == got[1] })
			}
		}
		want := "i5 i4 i2 i1"
		if order == "asc" {
			want = "i1 i2 i4 i5"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: pages are %v, want %s", order, got, want)
		}
	}
	_, _, header := serve(t, &world{boxes: crowd()}, owner())("GET /v2/sandboxes?limit=1", "")
	status, _, _ := serve(t, &world{boxes: crowd()}, owner())("GET /v2/sandboxes?order=asc&nextToken="+url.QueryEscape(header.Get("X-Next-Token")), "")
	if status != 400 {
		t.Errorf("a token of the other order is answered with %d", status)
	}
}

func TestLives(t *testing.T) {
	for name, tt := range map[string]struct {
		op, body  string
		status    int
		ends      time.Duration // from now; 0 for not told
		onlyLater bool
	}{
		"connect to one that runs":             {"POST /v2/sandboxes/i1/connect", ``, 200, 300 * time.Second, true},
		"connect for a time":                   {"POST /sandboxes/i1/connect", `{"timeout":20}`, 200, 20 * time.Second, true},
		"connect without a time, as first":     {"POST /sandboxes/i1/connect", `{}`, 400, 0, false},
		"connect to one that is paused":        {"POST /v2/sandboxes/i2/connect", `{"timeout":20}`, 201, 0, false},
		"connect to one that crashed":          {"POST /v2/sandboxes/i3/connect", ``, 404, 0, false},
		"connect to none":                      {"POST /v2/sandboxes/i9/connect", ``, 404, 0, false},
		"set a time":                           {"POST /sandboxes/i1/timeout", `{"timeout":0}`, 204, 0, false},
		"set no time":                          {"POST /sandboxes/i1/timeout", `{}`, 400, 0, false},
		"set the time of one that is paused":   {"POST /sandboxes/i2/timeout", `{"timeout":5}`, 404, 0, false},
		"refresh":                              {"POST /sandboxes/i1/refreshes", `{"duration":60}`, 204, time.Minute, true},
		"refresh by little":                    {"POST /sandboxes/i1/refreshes", `{}`, 204, 15 * time.Second, true},
		"refresh by too much":                  {"POST /sandboxes/i1/refreshes", `{"duration":3601}`, 400, 0, false},
		"pause":                                {"POST /sandboxes/i1/pause", `{}`, 204, 0, false},
		"pause again":                          {"POST /sandboxes/i2/pause", ``, 409, 0, false},
		"resume":                               {"POST /sandboxes/i2/resume", ``, 201, 0, false},
		"resume one that runs":                 {"POST /sandboxes/i1/resume", ``, 409, 0, false},
		"kill":                                 {"DELETE /sandboxes/i2", ``, 204, 0, false},
		"kill none":                            {"DELETE /sandboxes/i9", ``, 404, 0, false},
		"look at one that crashed":             {"GET /sandboxes/i3", ``, 404, 0, false},
		"look at it as our client does":        {"GET /sandboxes/i3?state=any", ``, 200, 0, false},
		"fork one that is paused":              {"POST /sandboxes/i2/fork", `{}`, 409, 0, false},
		"change the network of one that waits": {"PUT /sandboxes/i2/network", `{}`, 409, 0, false},
		"change the network":                   {"PUT /sandboxes/i1/network", `{}`, 204, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{boxes: crowd(), now: start()}
			status, body, _ := serve(t, w, owner())(tt.op, tt.body)
			if status != tt.status {
				t.Fatalf("%d %s", status, body)
			}
			if status >= 400 && read[client.Error](t, body).Code != status {
				t.Errorf("code in %s is not %d", body, status)
			}
			if tt.ends != 0 && (w.ended.Sub(start()) != tt.ends || w.onlyLater != tt.onlyLater) {
				t.Errorf("ends after %s, only later %v", w.ended.Sub(start()), w.onlyLater)
			}
		})
	}
}

func TestConnectTriesAgain(t *testing.T) {
	for busy, want := range map[int]int{2: 200, 3: 409} {
		w := &world{boxes: crowd(), now: start(), busy: busy}
		if status, body, _ := serve(t, w, owner())("POST /v2/sandboxes/i1/connect", ""); status != want {
			t.Errorf("busy %d times: %d %s", busy, status, body)
		}
	}
}

func TestForkSaysWhatBecameOfEach(t *testing.T) {
	_, body, _ := serve(t, &world{boxes: crowd()}, owner())("POST /sandboxes/i1/fork", `{"count":2}`)
	all := read[[]client.ForkResult](t, body)
	if len(all) != 2 || all[0].Sandbox == nil || all[0].Error != nil || all[1].Sandbox != nil || all[1].Error == nil || all[1].Error.Code != 507 {
		t.Errorf("answer is %s", body)
	}
}

func TestSnapshotsAreTemplatesOfATeam(t *testing.T) {
	w := &world{boxes: crowd(), templates: built(), now: start()}
	ask := serve(t, w, owner())
	var taken []client.Snapshot
	for _, name := range []string{``, `{"name":"web"}`, `{"name":"default/web:v2"}`} {
		w.now = w.now.Add(time.Second)
		status, body, _ := ask("POST /sandboxes/i1/snapshots", name)
		if status != 201 {
			t.Fatalf("%d %s", status, body)
		}
		taken = append(taken, read[client.Snapshot](t, body))
	}
	if got := taken[0]; len(got.Names) != 0 || !strings.HasSuffix(got.ID, ":default") || strings.Contains(got.ID, "/") {
		t.Errorf("without a name it is %+v", got)
	}
	if got := taken[2]; got.ID != "default/web:v2" || got.Names[0] != "default/web" {
		t.Errorf("with a name it is %+v", got)
	}
	list := func(query string) (all []string) {
		_, body, _ := ask("GET /snapshots"+query, "")
		for _, s := range read[[]client.Snapshot](t, body) {
			all = append(all, s.ID)
		}
		return all
	}
	for query, want := range map[string][]string{
		"": {taken[2].ID, taken[1].ID, taken[0].ID}, "?name=web": {taken[2].ID, taken[1].ID}, "?name=web:v2": {taken[2].ID},
		"?name=none": nil, "?sandboxID=i1&limit=1": {taken[2].ID}, "?sandboxID=i2": nil,
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("list%s is %v, want %v", query, got, want)
		}
	}
	for _, s := range taken {
		if status, body, _ := ask("POST /v2/sandboxes", `{"templateID":"`+s.ID+`"}`); status != 201 {
			t.Errorf("create from %s: %d %s", s.ID, status, body)
		}
		for _, want := range []int{204, 404} {
			if status, body, _ := ask("DELETE /templates/"+url.PathEscape(s.ID), ""); status != want {
				t.Errorf("remove %s: %d %s, want %d", s.ID, status, body, want)
			}
		}
	}
	if status, body, _ := ask("POST /sandboxes/i1/snapshots", `{"name":"other/web"}`); status != 400 {
		t.Errorf("of another team: %d %s", status, body)
	}
	if status, body, _ := ask("POST /sandboxes/i1/snapshots", `{"name":"monday","timeline":true}`); status != 201 || read[client.Snapshot](t, body).ID != "s1" {
		t.Errorf("of the timeline: %d %s", status, body)
	}
}

func TestTemplates(t *testing.T) {
	w := &world{templates: append(built(), client.Template{Name: "default/used:default", Origin: "i1", Sandboxes: 1})}
	ask := serve(t, w, owner())
	for _, tt := range []struct {
		op, body string
		status   int
		says     string
	}{
		{"GET /templates/aliases/base", "", 200, `"public":true`},
		{"GET /templates/aliases/none", "", 404, ""},
		{"GET /templates/base", "", 200, `"buildStatus":"ready"`},
		{"GET /templates/base/tags", "", 200, `"tag":"default"`},
		{"GET /templates/base/other", "", 404, ""},
		{"POST /templates/tags", `{"target":"base","tags":["v1","v2"]}`, 201, `["v1","v2"]`},
		{"GET /templates/base/tags", "", 200, `"tag":"v2"`},
		{"DELETE /templates/tags", `{"name":"base","tags":["v2"]}`, 204, ""},
		{"DELETE /templates/tags", `{"name":"base","tags":["v2"]}`, 404, ""},
		{"POST /templates/tags", `{"target":"base","tags":["a b"]}`, 400, "is no tag"},
		{"POST /templates/tags", `{"target":"base"}`, 400, "no tags"},
		{"DELETE /templates/a%2Fb%2Fc", "", 400, ""},
		{"DELETE /templates/base", "", 204, ""},
	} {
		if status, body, _ := ask(tt.op, tt.body); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: %d %s", tt.op, tt.body, status, body)
		}
	}
	w.templates = built()
	if status, body, _ := serve(t, w, auth.Principal{Team: "a", Scope: auth.Admin})("DELETE /templates/base", ""); status != 403 {
		t.Errorf("another team removes what is the host's: %d %s", status, body)
	}
}

func TestMetricsAndLogs(t *testing.T) {
	w := &world{boxes: crowd()}
	for i := range 3 {
		at := start().Add(time.Duration(i) * 10 * time.Second)
		w.samples = append(w.samples, client.Metric{Timestamp: at, TimestampUnix: at.Unix()})
		w.events = append(w.events, client.Event{Seq: uint64(i), Time: at, Type: "sandbox.started", Fields: map[string]string{"n": fmt.Sprint(i)}})
	}
	ask := serve(t, w, owner())
	for _, tt := range []struct {
		op    string
		count string
		want  int
	}{
		{"GET /sandboxes/i1/metrics", `"timestampUnix"`, 3},
		{fmt.Sprintf("GET /sandboxes/i1/metrics?start=%d&end=%d", start().Unix()+5, start().Unix()+15), `"timestampUnix"`, 1},
		{"GET /sandboxes/i1/metrics?end=1", `"timestampUnix"`, 0},
		{"GET /sandboxes/metrics?sandbox_ids=i1,i3,i9", `"timestampUnix"`, 1},
		{"GET /v2/sandboxes/i1/logs", `"sandbox.started"`, 3},
		{"GET /v2/sandboxes/i1/logs?limit=2&direction=forward", `"sandbox.started"`, 2},
		{"GET /v2/sandboxes/i1/logs?level=warn", `"sandbox.started"`, 0},
		{"GET /v2/sandboxes/i1/logs?search=stopped", `"sandbox.started"`, 0},
		{fmt.Sprintf("GET /v2/sandboxes/i1/logs?direction=forward&cursor=%d", start().UnixMilli()+15_000), `"sandbox.started"`, 1},
		{"GET /sandboxes/i1/logs", `"line":"sandbox.started"`, 3},
	} {
		status, body, _ := ask(tt.op, "")
		if n := strings.Count(body, tt.count); status != 200 || n != tt.want {
			t.Errorf("%s: %d, %d times %s in %s", tt.op, status, n, tt.count, body)
		}
	}
	_, body, _ := ask("GET /v2/sandboxes/i1/logs?limit=1", "")
	if !strings.Contains(body, `"n":"2"`) {
		t.Errorf("the last line is not the first: %s", body)
	}
	for _, op := range []string{"GET /sandboxes/i1/metrics?start=9&end=8", "GET /sandboxes/metrics", "GET /v2/sandboxes/i1/logs?limit=1001", "GET /v2/sandboxes/i1/logs?direction=up"} {
		if status, body, _ := ask(op, ""); status != 400 {
			t.Errorf("%s: %d %s", op, status, body)
		}
	}
}

func TestRepeatedCreateMakesOne(t *testing.T) {
	w := &world{templates: built(), now: start()}
	ask := serve(t, w, owner())
	create := func(key, body string) (int, string) {
		w.created = client.CreateRequest{}
		status, answer, _ := ask("POST /v2/sandboxes", body, "Idempotency-Key", key)
		return status, answer
	}
	if status, body := create("a-1", `{"templateID":"none"}`); status != 404 {
		t.Fatalf("%d %s", status, body)
	}
	for i, want := range []string{"base", ""} {
		if status, body := create("a-1", `{"templateID":"base"}`); status != 201 || w.created.TemplateID != want {
			t.Errorf("time %d: %d %s, made from %q", i+1, status, body, w.created.TemplateID)
		}
	}
	if _, _ = create("a-2", `{"templateID":"base"}`); w.created.TemplateID != "base" {
		t.Error("another key makes none")
	}
	w.now = w.now.Add(2 * time.Hour)
	if _, _ = create("a-1", `{"templateID":"base"}`); w.created.TemplateID != "base" {
		t.Error("a key is remembered for ever")
	}
	if status, body := create("A b", `{"templateID":"base"}`); status != 400 {
		t.Errorf("a bad key: %d %s", status, body)
	}
}
