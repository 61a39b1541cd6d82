// Package metrics counts what the daemon does, for Prometheus.
//
// What happens is told to it (Answered, Happened); what there is, it asks for at
// each scrape (Host), so that nothing is kept twice. Labels take few values:
// routes, states and types of events, never names that a guest or a client
// chooses.
//
// metrics must not know where any of this comes from. Metrics are safe for
// concurrent use.
package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Machine is a sandbox as it is now.
type Machine struct {
	ID, State string
	// Resident is the memory of its VMM in bytes, 0 if it has none.
	Resident int64
}

// Pool is how full the pool is, in bytes.
type Pool struct{ Total, Free, Reserved int64 }

// Host is what there is.
type Host interface {
	Machines() []Machine
	Pool() (Pool, error)
}

// Metrics are those of one daemon.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	events    *prometheus.CounterVec
	verdicts  *prometheus.CounterVec
	took      *prometheus.HistogramVec
}

// New returns metrics without any counts. states lists the states that a sandbox
// can have, so that those of none are shown as 0.
func New(version string, host Host, states []string) *Metrics {
	// From the first answer of a guest to a template's build.
	buckets := []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bulkhead_requests_total", Help: "Requests answered, by route and status.",
		}, []string{"route", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bulkhead_request_duration_seconds", Help: "Time from a request to the end of its answer, by route.", Buckets: buckets,
		}, []string{"route"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bulkhead_events_total", Help: "Events recorded, by type.",
		}, []string{"type"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bulkhead_egress_verdicts_total", Help: "Connections that sandboxes asked for, by what was decided.",
		}, []string{"verdict"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bulkhead_operation_duration_seconds", Help: "Time that operations on machines took; for a snapshot, that its guest stood still.",
			Buckets: buckets,
		}, []string{"operation"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "bulkhead_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.events, m.verdicts, m.took, build, &collector{host, states},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, v := range []string{allowed, denied, asked} {
		m.verdicts.WithLabelValues(v)
	}
	return m
}

// Answered counts an answer. A route is one of the few that there are.
func (m *Metrics) Answered(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.durations.WithLabelValues(route).Observe(took.Seconds())
}

// What a policy decides about a connection.
const (
	allowed = "allowed"
	denied  = "denied"
	asked   = "asked"
)

// Happened counts an event. Of its fields, those that are durations of an
// operation are looked at.
func (m *Metrics) Happened(typ string, fields map[string]string) {
	m.events.WithLabelValues(typ).Inc()
	switch typ {
	case "egress.connection":
		m.verdicts.WithLabelValues(allowed).Inc()
	case "egress.denied":
		m.verdicts.WithLabelValues(denied).Inc()
	case "egress.asked":
		m.verdicts.WithLabelValues(asked).Inc()
	case "snapshot.taken":
		m.observe("snapshot", fields["stopped"])
	case "sandbox.rolled_back", "sandbox.paused", "sandbox.resumed":
		m.observe(strings.TrimPrefix(typ, "sandbox."), fields["took"])
	}
}

func (m *Metrics) observe(operation, took string) {
	if d, err := time.ParseDuration(took); err == nil {
		m.took.WithLabelValues(operation).Observe(d.Seconds())
	}
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}
