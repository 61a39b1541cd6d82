package vitals_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/internal/guestd/vitals"
)

func get(t *testing.T, h http.Handler, path string, into any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v: %q", path, err, w.Body)
		}
	}
	return w
}

func TestHandler(t *testing.T) {
	h := vitals.Handler(func() map[string]string { return map[string]string{"A": "b"} })
	t.Run("health answers without a body", func(t *testing.T) {
		w := get(t, h, "/health", nil)
		if w.Code != http.StatusNoContent || w.Body.Len() != 0 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("got %d %q %v", w.Code, w.Body, w.Header())
		}
	})
	t.Run("envs are the default variables", func(t *testing.T) {
		got := map[string]string{}
		get(t, h, "/envs", &got)
		if diff := cmp.Diff(map[string]string{"A": "b"}, got); diff != "" {
			t.Error(diff)
		}
		if w := get(t, vitals.Handler(nil), "/envs", nil); w.Body.String() != "{}\n" {
			t.Errorf("without variables got %q", w.Body)
		}
	})
	t.Run("metrics have every name and sane values", func(t *testing.T) {
		var m map[string]float64
		for range 2 { // the second has a past to compare with
			m = nil
			get(t, h, "/metrics", &m)
		}
		want := []string{"cpu_count", "cpu_used_pct", "disk_total", "disk_used", "mem_cache", "mem_total",
			"mem_total_mib", "mem_used", "mem_used_mib", "ts"}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(m))); diff != "" {
			t.Error(diff)
		}
		if m["cpu_count"] != float64(runtime.NumCPU()) || m["mem_used"] <= 0 || m["mem_used"] > m["mem_total"] ||
			m["disk_used"] <= 0 || m["disk_used"] > m["disk_total"] || m["cpu_used_pct"] < 0 || m["cpu_used_pct"] > 100 {
			t.Errorf("got %v", m)
		}
	})
}

func TestReadCountsForward(t *testing.T) {
	a, err := vitals.Read()
	if err != nil {
		t.Fatal(err)
	}
	b, err := vitals.Read()
	if err != nil {
		t.Fatal(err)
	}
	if a.CPUBusy <= 0 || b.CPUBusy < a.CPUBusy {
		t.Errorf("busy for %v, then for %v", a.CPUBusy, b.CPUBusy)
	}
}
