package ask_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/internal/guestd/ask"
)

func TestRun(t *testing.T) {
	asked := ""
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body)
		switch {
		case r.URL.Path == "/timeline":
			io.WriteString(w, `[{"snapshotID":"s1","name":"monday","cause":"manual","createdAt":"2026-01-02T03:04:05Z"}]`)
		case r.URL.Path == "/snapshot":
			w.WriteHeader(201)
			io.WriteString(w, `{"snapshotID":"s2"}`)
		case strings.Contains(string(body), "never"):
			http.Error(w, "There is no such snapshot.", 404)
		default:
			w.WriteHeader(202)
			io.WriteString(w, `{"snapshotID":"s1"}`)
		}
	}))
	defer host.Close()
	for _, tt := range []struct {
		args       []string
		status     int
		asks, says string
	}{
		{[]string{"timeline"}, 0, "GET /timeline ", "s1        monday"},
		{[]string{"snapshot"}, 0, "POST /snapshot ", "s2\n"},
		{[]string{"rollback", "monday"}, 0, `POST /rollback {"snapshot":"monday"}`, "goes back to monday"},
		{[]string{"rollback", "never"}, 1, `POST /rollback {"snapshot":"never"}`, "no such snapshot. (404"},
		{[]string{"rollback"}, 2, "", "usage:"},
		{[]string{"snapshot", "x"}, 2, "", "usage:"},
		{[]string{"serve"}, 2, "", "usage:"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			asked = ""
			var said bytes.Buffer
			c := ask.Client{Base: host.URL, Out: &said, Err: &said}
			if got := c.Run(t.Context(), tt.args); got != tt.status || asked != tt.asks || !strings.Contains(said.String(), tt.says) {
				t.Errorf("status %d, asked %q, said %q", got, asked, said.String())
			}
		})
	}
}
