package desk_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/page/desk"
)

// guest answers instead of an agent.
type guest func(w http.ResponseWriter, r *http.Request)

func (g guest) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	g(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func deskOf(g guest) *desk.Desk {
	return &desk.Desk{Transport: func(context.Context, string) (http.RoundTripper, error) { return g, nil }}
}

// What a guest says of its answer is not said to a browser.
func TestDownloadIsNoPage(t *testing.T) {
	d := deskOf(func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "root" || r.URL.Query().Get("path") != "/srv/<b>.html" {
			t.Errorf("the guest is asked for %s by %s", r.URL, user)
		}
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Set-Cookie", "bulkhead_session=mine")
		w.Header().Set("Content-Disposition", "inline")
		w.Header().Set("Refresh", "0; url=https://evil.example")
		io.WriteString(w, "<script>alert(1)</script>")
	})
	w := httptest.NewRecorder()
	if err := d.Download(w, httptest.NewRequest("GET", "/x?path=/srv/a/../<b>.html", nil), "otter"); err != nil {
		t.Fatal(err)
	}
	h := w.Result().Header
	for key, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Set-Cookie": "", "Refresh": "", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'",
	} {
		if got := h.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got := h.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") {
		t.Errorf("disposition %q", got)
	}
	if got := w.Body.String(); got != "<script>alert(1)</script>" {
		t.Errorf("body %q", got)
	}
}

func TestRedirectsOfAGuestLeadNowhere(t *testing.T) {
	asked := 0
	d := deskOf(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "http://guest/files?path=/etc/shadow", http.StatusTemporaryRedirect)
	})
	if err := d.Download(httptest.NewRecorder(), httptest.NewRequest("GET", "/x?path=/a", nil), "otter"); err == nil || asked != 1 {
		t.Errorf("error %v after %d requests", err, asked)
	}
}

func TestPathsAreChecked(t *testing.T) {
	d := deskOf(func(http.ResponseWriter, *http.Request) { t.Error("the guest was asked") })
	for _, path := range []string{"", "relative", "~/x", "/a\x00b", "/" + strings.Repeat("a", 5000), "/\xff"} {
		r := httptest.NewRequest("GET", "/x", nil)
		q := r.URL.Query()
		q.Set("path", path)
		r.URL.RawQuery = q.Encode()
		if err := d.Download(httptest.NewRecorder(), r, "otter"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v", path, err)
		}
		if _, err := d.List(t.Context(), "otter", path); !fault.Is(err, fault.Invalid) {
			t.Errorf("list %.20q: %v", path, err)
		}
	}
}

func TestRefusalsOfAGuestAreBounded(t *testing.T) {
	d := deskOf(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message": "`+strings.Repeat("x", 5000)+`"}`)
	})
	err := d.Download(httptest.NewRecorder(), httptest.NewRequest("GET", "/x?path=/a", nil), "otter")
	if !fault.Is(err, fault.NotFound) || len(err.Error()) > 600 {
		t.Errorf("%d bytes, kind %s", len(err.Error()), fault.KindOf(err))
	}
}
