package daemon

import (
	"bulkhead/internal/pool"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox/lifecycle"
	"bulkhead/internal/server/metrics"
)

// measured is what is asked for at each scrape.
type measured struct {
	guests func() *heart
	files  *pool.Pool
}

// Machines implements metrics.Host.
func (m measured) Machines() []metrics.Machine {
	h := m.guests()
	if h == nil {
		return nil
	}
	var all []metrics.Machine
	for _, s := range h.List() {
		one := metrics.Machine{ID: string(s.ID), State: string(s.State)}
		if s.PID != 0 {
			one.Resident = int64(reclaim.Resident(s.PID)) << 20
		}
		all = append(all, one)
	}
	return all
}

// Pool implements metrics.Host.
func (m measured) Pool() (metrics.Pool, error) {
	u, err := m.files.Usage()
	return metrics.Pool(u), err
}

// states are those that a sandbox can be in.
func states() []string {
	var all []string
	for _, s := range lifecycle.States() {
		if s != lifecycle.Gone {
			all = append(all, string(s))
		}
	}
	return all
}
