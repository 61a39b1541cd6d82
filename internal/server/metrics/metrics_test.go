package metrics_test

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/server/metrics"
)

// host has what a test gives it.
type host struct {
	machines []metrics.Machine
	pool     metrics.Pool
	err      error
}

func (h host) Machines() []metrics.Machine { return h.machines }
func (h host) Pool() (metrics.Pool, error) { return h.pool, h.err }

func scrape(t *testing.T, m *metrics.Metrics) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Code, w.Body.String()
}

func busy() *metrics.Metrics {
	m := metrics.New("1.2.3", host{
		machines: []metrics.Machine{{"i1", "running", 1 << 20}, {"i2", "running", 2 << 20}, {"i3", "paused", 0}},
		pool:     metrics.Pool{Total: 100, Free: 40, Reserved: 30},
	}, []string{"running", "paused", "crashed"})
	m.Answered("GET /v2/sandboxes", 200, 20*time.Millisecond)
	m.Answered("GET /v2/sandboxes", 401, time.Millisecond)
	for typ, fields := range map[string]map[string]string{
		"egress.denied": {"destination": "evil.example:443"}, "egress.connection": nil, "egress.asked": nil,
		"snapshot.taken": {"stopped": "25ms"}, "sandbox.rolled_back": {"took": "300ms"}, "sandbox.paused": {"took": "nonsense"},
	} {
		m.Happened(typ, fields)
	}
	return m
}

func TestScrape(t *testing.T) {
	status, text := scrape(t, busy())
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for _, want := range []string{
		`bulkhead_requests_total{code="200",route="GET /v2/sandboxes"} 1`,
		`bulkhead_requests_total{code="401",route="GET /v2/sandboxes"} 1`,
		`bulkhead_request_duration_seconds_bucket{route="GET /v2/sandboxes",le="0.025"} 2`,
		`bulkhead_request_duration_seconds_bucket{route="GET /v2/sandboxes",le="0.01"} 1`,
		`bulkhead_sandboxes{state="running"} 2`,
		`bulkhead_sandboxes{state="crashed"} 0`,
		`bulkhead_vmm_resident_bytes{sandbox="i2"} 2.097152e+06`,
		`bulkhead_pool_bytes{kind="free"} 40`,
		`bulkhead_egress_verdicts_total{verdict="denied"} 1`,
		`bulkhead_events_total{type="snapshot.taken"} 1`,
		`bulkhead_operation_duration_seconds_sum{operation="rolled_back"} 0.3`,
		`bulkhead_operation_duration_seconds_sum{operation="snapshot"} 0.025`,
		`bulkhead_build_info{version="1.2.3"} 1`,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, not := range []string{"i3", "evil.example", `operation="paused"`} {
		if strings.Contains(text, not) {
			t.Errorf("%s is told", not)
		}
	}
}

func TestPoolThatDoesNotAnswerFailsTheScrape(t *testing.T) {
	m := metrics.New("1", host{err: errors.New("gone")}, nil)
	if status, text := scrape(t, m); status != 500 || !strings.Contains(text, "gone") {
		t.Errorf("%d %s", status, text)
	}
}

// TestDashboardAsksForWhatThereIs finds every metric that the dashboard names.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	b, err := os.ReadFile("../../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	_, text := scrape(t, busy())
	asked := 0
	for _, p := range board.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`(bulkhead|process|go)_[a-z_]+`).FindAllString(target.Expr, -1) {
				asked++
				if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") {
					t.Errorf("panel %q asks for %s, which there is not", p.Title, name)
				}
			}
		}
	}
	if asked < 8 {
		t.Errorf("the dashboard asks for %d metrics", asked)
	}
}
