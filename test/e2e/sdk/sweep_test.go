package sdk_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkhead/test/harness"
)

// sweeper makes the requests that no SDK makes.
type sweeper struct {
	t    *testing.T
	host *host
	http http.Client
}

// ask makes one request and returns the answer's body, which is an error unless
// its status is want.
func (s *sweeper) ask(want int, op, body string) []byte {
	s.t.Helper()
	method, path, _ := strings.Cut(op, " ")
	return s.send(want, method, path, strings.NewReader(body))
}

func (s *sweeper) send(want int, method, path string, body io.Reader) []byte {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.host.plain+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", s.host.key)
	resp, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != want {
		s.t.Errorf("%s %s: %s %.300s, want %d", method, path, resp.Status, b, want)
	}
	return b
}

// until asks again until the answer says something.
func (s *sweeper) until(op, text string) {
	s.t.Helper()
	limit := time.After(harness.Patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !bytes.Contains(s.ask(200, op, ""), []byte(text)) {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("%s never says %s", op, text)
		}
	}
}

// id reads a field of an answer.
func (s *sweeper) id(answer []byte, field string) string {
	s.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(answer, &v); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(v[field])
}

// sweep makes every request of the document that SDKs do not make.
func (s *sweeper) sweep() {
	for _, op := range []string{"GET /version", "GET /metrics", "GET /openapi.yaml", "GET /templates", "GET /v2/templates", "GET /events", "GET /events/verified", "GET /egress/pending"} {
		s.ask(200, op, "")
	}
	s.ask(204, "GET /health", "")
	s.ask(204, "GET /ready", "")
	box := "/sandboxes/" + s.id(s.ask(201, "POST /v2/sandboxes", `{"templateID":"base","name":"swept","forever":true}`), "sandboxID")
	defer s.ask(204, "DELETE "+box, "")
	s.lives(box)
	s.past(box)
	s.network(box)
	s.templates()
	s.builds()
	s.absent()
}

func (s *sweeper) lives(box string) {
	s.ask(200, "GET /sandboxes", "")
	s.ask(200, "GET /v2/sandboxes?state=any&order=asc&limit=1", "")
	s.ask(204, "POST "+box+"/refreshes", `{"duration":60}`)
	s.ask(200, "PUT "+box+"/schedule", `{"idleSeconds":3600}`)
	s.ask(409, "POST "+box+"/start", "")
	s.ask(409, "POST "+box+"/resume", "")
	s.ask(204, "POST "+box+"/pause", `{"memory":false}`)
	s.ask(201, "POST "+box+"/resume", "")                      // a cold boot
	s.host.CLI("exec", "swept", "--", "systemctl", "poweroff") // it may be cut by what it does
	s.until("GET "+box+"?state=any", `"state":"stopped"`)
	s.ask(200, "POST "+box+"/start", "")
	s.ask(200, "POST "+box+"/restart", "")
	s.ask(404, "POST /sandboxes/i00000000000000000000/restart", "")
	s.ask(400, "GET /sandboxes/i%2F..%2Fx", "")
}

func (s *sweeper) past(box string) {
	snap := s.id(s.ask(201, "POST "+box+"/snapshots", `{"timeline":true,"name":"monday"}`), "snapshotID")
	s.ask(200, "GET "+box+"/timeline", "")
	s.ask(200, "POST "+box+"/rollback", `{"snapshot":"monday","discard":true}`)
	s.ask(200, "GET "+box+"/diff?from=monday", "")
	s.ask(200, "GET "+box+"/console?tail=100", "")
	s.ask(200, "GET "+box+"/logs?limit=10", "")
	if logs := s.ask(200, "GET /v2"+box+"/logs?search=snapshot.taken", ""); !bytes.Contains(logs, []byte("snapshot.taken")) {
		s.t.Errorf("logs are %.300s", logs)
	}
	s.ask(200, "GET /sandboxes/metrics?sandbox_ids="+strings.TrimPrefix(box, "/sandboxes/"), "")
	s.ask(503, "POST "+box+"/ports/9", "")
	s.host.Box("swept").Sh(`systemd-run --quiet --collect python3 -c '
import socket
c, _ = socket.create_server(("127.0.0.1", 9001)).accept()
c.sendall(b"told " + c.recv(99))
'
until ss -ltn | grep -q :9001; do sleep 0.1; done`)
	if told := s.ask(200, "POST "+box+"/ports/9001", "hello"); string(told) != "told hello" {
		s.t.Errorf("the port answers %q", told)
	}
	parcel := s.ask(200, "GET "+box+"/export?snapshot=monday", "")
	twin := s.id(s.send(201, "POST", "/sandboxes/import?name=twin", bytes.NewReader(parcel)), "sandboxID")
	s.ask(204, "DELETE /sandboxes/"+twin, "")
	s.ask(204, "DELETE "+box+"/snapshots/"+snap, "")
}

func (s *sweeper) network(box string) {
	s.ask(200, "PUT "+box+"/egress", `{"preset":"packages"}`)
	s.ask(200, "POST "+box+"/egress/rules", `{"destination":"a.example","allow":true}`)
	s.ask(200, "GET "+box+"/egress", "")
	s.ask(200, "POST "+box+"/egress/test", `{"destination":"a.example:443"}`)
	if got := s.ask(200, "POST "+box+"/egress/test", `{"destination":"a.example:443","policy":"version: 1\ndefault: ask\n"}`); !bytes.Contains(got, []byte(`"asks":true`)) {
		s.t.Errorf("by a draft that asks: %s", got)
	}
	s.ask(400, "POST "+box+"/egress/test", `{"destination":"a.example:443","policy":"version: 7\n"}`)
	s.ask(200, "POST "+box+"/egress/ask", `{"destination":"a.example:443"}`)
	s.ask(400, "POST "+box+"/egress/answer", `{"destination":"b.example:443","allow":true}`)
	s.ask(200, "PUT "+box+"/egress", `{"policy":"version: 1\ndefault: ask\n"}`)
	verdict := make(chan []byte, 1)
	go func() { verdict <- s.ask(200, "POST "+box+"/egress/ask", `{"destination":"b.example:443"}`) }()
	s.until("GET /egress/pending", `"destination":"b.example:443"`)
	s.ask(204, "POST "+box+"/egress/answer", `{"destination":"b.example:443","allow":true}`)
	if b := <-verdict; !bytes.Contains(b, []byte(`"allowed":true`)) {
		s.t.Errorf("who asked is told %s", b)
	}
	s.ask(204, "POST "+box+"/egress/learn", `{"on":true}`)
	s.ask(200, "GET "+box+"/egress/learn", "")
	s.ask(200, "POST "+box+"/egress/replay", `{"preset":"none"}`)
	s.ask(200, "GET "+box+"/blast-radius", "")
	s.ask(204, "PUT /secrets/swept", `{"value":"0123456789"}`)
	s.ask(200, "GET /secrets", "")
	s.ask(204, "DELETE /secrets/swept", "")
	s.ask(200, "GET /ssh", "")
	s.ask(201, "POST /ssh/keys", `{"key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g swept"}`)
	s.ask(200, "GET /ssh/keys", "")
	s.ask(204, "DELETE /ssh/keys/swept", "")
	s.ask(201, "POST /keys", `{"name":"swept","scope":"read"}`)
	s.ask(200, "GET /keys", "")
	s.ask(204, "DELETE /keys/swept", "")
}

func (s *sweeper) templates() {
	s.ask(200, "GET /templates/base", "")
	s.ask(200, "GET /templates/aliases/base", "")
	s.ask(404, "GET /templates/aliases/none", "")
	s.ask(201, "POST /templates/tags", `{"target":"base","tags":["v1"]}`)
	s.ask(200, "GET /templates/base/tags", "")
	s.ask(204, "DELETE /templates/tags", `{"name":"base","tags":["v1"]}`)
	if built := s.ask(200, "POST /templates", `{"name":"swept"}`); !bytes.Contains(built, []byte(`"template":{`)) {
		s.t.Errorf("build ends with %.300s", built)
	}
	s.ask(200, "PUT /templates/swept/schedule", `{"idleSeconds":3600}`)
	s.ask(204, "DELETE /templates/swept", "")
}

// builds has a template built of files that are no archive, after the SDKs have
// built theirs.
func (s *sweeper) builds() {
	build := s.id(s.ask(202, "POST /v2/templates", `{"alias":"swept-too"}`), "buildID")
	hash := strings.Repeat("0a", 32)
	to, err := url.Parse(s.id(s.ask(201, "GET /templates/swept-too/files/"+hash, ""), "url"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(400, "PUT", to.RequestURI(), io.LimitReader(strings.NewReader("without a length"), 100))
	s.send(403, "PUT", to.RequestURI(), strings.NewReader("with a token that was used"))
	if to, err = url.Parse(s.id(s.ask(201, "GET /templates/swept-too/files/"+hash, ""), "url")); err != nil {
		s.t.Fatal(err)
	}
	s.send(200, "PUT", to.RequestURI(), strings.NewReader("no archive"))
	s.ask(400, "GET /templates/swept-too/files/..%2Fx", "")
	path := "/templates/swept-too/builds/" + build
	s.ask(501, "POST /v2"+path, `{"fromImage":"nginx","fromImageRegistry":{"type":"aws"}}`)
	s.ask(400, "POST /v2"+path, `{"fromTemplate":"base","steps":[{"type":"COPY","args":["../a","b"],"filesHash":"`+hash+`"}]}`)
	s.ask(202, "POST /v2"+path, `{"fromTemplate":"base","steps":[{"type":"COPY","args":["a","b"],"filesHash":"`+hash+`"}]}`)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	status := s.ask(200, "GET "+path+"/status", "")
	for ; !bytes.Contains(status, []byte(`"status":"error"`)); <-tick.C {
		status = s.ask(200, "GET "+path+"/status", "")
	}
	if !bytes.Contains(status, []byte(`"step":"1"`)) || !bytes.Contains(status, []byte("copy 'a' to 'b'")) {
		s.t.Errorf("build is %s", status)
	}
	s.ask(200, "GET "+path+"/logs?direction=backward&limit=10", "")
	s.ask(404, "GET /templates/swept-too/builds/none/status", "")
	s.ask(404, "GET /templates/kitchen-e2b/builds/"+build+"/status", "")
	s.strangers(path, hash)
	s.ask(200, "PATCH /templates/kitchen-e2b", `{"public":false}`)
	s.ask(501, "PATCH /v2/templates/kitchen-e2b", `{"public":true}`)
}

// strangers has another team look for a build, its files and its template.
func (s *sweeper) strangers(build, hash string) {
	ours := s.host.key
	defer func() {
		s.host.key = ours
		s.ask(204, "DELETE /keys/stranger", "")
	}()
	s.host.key = s.id(s.ask(201, "POST /keys", `{"name":"stranger","team":"others","scope":"operate"}`), "value")
	s.ask(404, "GET "+build+"/status", "")
	s.ask(404, "GET "+build+"/logs", "")
	s.ask(404, "POST /v2"+build, `{"fromTemplate":"base"}`)
	s.ask(404, "GET /templates/swept-too/files/"+hash, "")
	s.ask(404, "GET /templates/kitchen-e2b", "")
	s.ask(404, "DELETE /templates/kitchen-e2b", "")
	s.ask(404, "POST /v2/sandboxes", `{"templateID":"kitchen-e2b"}`)
	own := s.id(s.ask(202, "POST /v3/templates", `{"name":"theirs"}`), "buildID")
	s.ask(404, "POST /v2/templates/theirs/builds/"+own, `{"fromTemplate":"default/kitchen-e2b"}`)
}

// absent asks for what is not offered.
func (s *sweeper) absent() {
	for _, op := range s.host.recorder.Missing() {
		method, path, _ := strings.Cut(op, " ")
		path = strings.NewReplacer("{", "", "}", "").Replace(path)
		if b := s.send(501, method, path, strings.NewReader("{}")); !bytes.Contains(b, []byte(`"hint":"`)) {
			s.t.Errorf("%s: %s", op, b)
		}
	}
}
