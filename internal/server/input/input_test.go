package input_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

func request(query, body string) *http.Request {
	return httptest.NewRequest("POST", "/?"+query, strings.NewReader(body))
}

func TestJSON(t *testing.T) {
	for body, want := range map[string]string{"": "before", `{}`: "before", `{"name":"a","more":[1]}`: "a", `{"name":1}`: "error", `{}{}`: "error", "[": "error"} {
		v := struct {
			Name string `json:"name"`
		}{"before"}
		err := input.JSON(request("", body), &v)
		if want == "error" && !fault.Is(err, fault.Invalid) || want != "error" && (err != nil || v.Name != want) {
			t.Errorf("%q: %+v, %v", body, v, err)
		}
	}
}

func TestParameters(t *testing.T) {
	within := input.Range{Least: 1, Most: 9}
	for query, want := range map[string]int64{"": 5, "n=1": 1, "n=9": 9, "n=0": -1, "n=10": -1, "n=x": -1, "n=99999999999999999999": -1} {
		got, err := input.Count(request(query, ""), "n", 5, within)
		if want == -1 && !fault.Is(err, fault.Invalid) || want != -1 && (err != nil || got != want) {
			t.Errorf("count of %q is %d, %v", query, got, err)
		}
	}
	for query, want := range map[string]string{"": "down", "o=up": "up", "o=Up": "error"} {
		got, err := input.OneOf(request(query, ""), "o", "down", "up")
		if want == "error" && !fault.Is(err, fault.Invalid) || want != "error" && (err != nil || got != want) {
			t.Errorf("word of %q is %q, %v", query, got, err)
		}
	}
	for query, want := range map[string]time.Time{"": {}, "t=2026-05-04T03:02:01.5Z": time.Date(2026, 5, 4, 3, 2, 1, 5e8, time.UTC)} {
		if got, err := input.Time(request(query, ""), "t"); err != nil || !got.Equal(want) {
			t.Errorf("time of %q is %v, %v", query, got, err)
		}
	}
	if _, err := input.Time(request("t=yesterday", ""), "t"); !fault.Is(err, fault.Invalid) {
		t.Errorf("yesterday: %v", err)
	}
}

func TestQuotedIsShort(t *testing.T) {
	if got := input.Quoted(strings.Repeat("x", 1000)); len(got) != 67 {
		t.Errorf("%d bytes", len(got))
	}
}
