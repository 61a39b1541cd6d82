package remote_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"bulkhead/client"
	"bulkhead/client/remote"
)

func TestDialRefusesWhatIsNoURL(t *testing.T) {
	for _, url := range []string{"", "localhost:3000", "unix:///run/x", "ftp://x", "https://", "https://x/v1", "://"} {
		_, err := remote.Dial(remote.Host{URL: url})
		var e *client.Error
		if !errors.As(err, &e) || e.Kind != "invalid" || e.Hint == "" {
			t.Errorf("Dial(%q) = %v, want an error of kind invalid", url, err)
		}
	}
}

// TestKeyAndHost looks at what arrives under each way to call a host.
func TestKeyAndHost(t *testing.T) {
	var seen []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	c, err := remote.Dial(remote.Host{URL: s.URL + "/", Key: "e2b_1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen[0].Header.Get("X-Api-Key"); got != "e2b_1" || "http://"+seen[0].Host != s.URL {
		t.Errorf("key %q at %s", got, seen[0].Host)
	}
	_, _ = c.Exec(t.Context(), client.Exec{Sandbox: "otter", Cmd: "true"}) // the answer is none
	if got := seen[1]; "http://"+got.Host != s.URL || got.Header.Get("E2b-Sandbox-Id") != "otter" || got.Header.Get("X-Api-Key") != "e2b_1" {
		t.Errorf("exec asks %s with %v", got.Host, got.Header)
	}
}

// TestNamesGetAHostOfTheirOwn: under a name that could be a sandbox's, headers
// lead into none.
func TestNamesGetAHostOfTheirOwn(t *testing.T) {
	for from, want := range map[string]string{
		"https://bulkhead.example:81": "sandbox.bulkhead.example:81", "https://api.bulkhead.example": "sandbox.api.bulkhead.example",
		"http://localhost:3000": "", "http://127.0.0.1:3000": "", "http://[::1]:3000": "",
	} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		if got := remote.GuestHost(u); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

// TestBusyDaemonIsAskedAgain waits as long as it is told, and sends the same.
func TestBusyDaemonIsAskedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		retryAfter string
		refusals   int
		wantTries  int
		wantErr    bool
	}{
		"once":                     {"1", 1, 2, false},
		"as often as that":         {"2", 3, 4, false},
		"but not for ever":         {"1", 9, 4, true},
		"nor for long":             {"3600", 9, 1, true},
		"nor without being told":   {"", 9, 1, true},
		"nor at a time of its own": {"Thu, 01 Jan 2026 00:00:00 GMT", 9, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				busy := roundTrip(func(r *http.Request) (*http.Response, error) {
					b, err := io.ReadAll(r.Body)
					if err != nil || string(b) != `{"name":"monday","timeline":true}` {
						t.Errorf("try %d sends %q, %v", tries, b, err)
					}
					resp := &http.Response{StatusCode: 201, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"snapshotID":"s"}`))}
					if tries++; tries <= tt.refusals {
						resp.StatusCode, resp.Body = 429, io.NopCloser(strings.NewReader(`{"code":429,"message":"busy"}`))
						resp.Header.Set("Retry-After", tt.retryAfter)
					}
					return resp, nil
				})
				c := client.Over(client.Way{Where: "x", Base: "http://x", Transport: remote.Patient(busy)})
				_, err := c.Snapshot(context.Background(), "otter", client.SnapshotRequest{Name: "monday"})
				if tries != tt.wantTries || (err != nil) != tt.wantErr {
					t.Errorf("%d tries, %v; want %d, an error: %v", tries, err, tt.wantTries, tt.wantErr)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
