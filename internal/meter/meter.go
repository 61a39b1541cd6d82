// Package meter remembers what machines were like: processor, memory and disk,
// as their guests say, for the last two hours.
//
// A guest may lie about itself; nothing is decided by what is remembered here.
// meter must not know how a guest is asked. A Meter is safe for concurrent use,
// but looks at one time once.
package meter

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// kept is how many samples of a machine are remembered: two hours of one
	// every ten seconds, some 60 KiB.
	kept = 720
	// patience is how long a guest may take to answer.
	patience = 5 * time.Second
	// atOnce is how many guests are asked side by side.
	atOnce = 4
)

// Reading is what a guest says. Sizes are bytes.
type Reading struct {
	CPUs int
	// CPUBusy is what its processors have worked since it was started.
	CPUBusy                     time.Duration
	MemTotal, MemUsed, MemCache int64
	DiskTotal, DiskUsed         int64
}

// Sample is a reading at a time.
type Sample struct {
	At time.Time
	Reading
	// CPUUsed is the share of all processors since the sample before, in percent.
	CPUUsed float64
}

// Machines are those that are metered.
type Machines interface {
	// Running lists the ids of those that run.
	Running() []string
	// Exists reports whether there still is a machine of that id.
	Exists(id string) bool
	Read(ctx context.Context, id string) (Reading, error)
}

// Meter remembers samples. Its exported fields are not changed once it is used.
type Meter struct {
	Machines Machines
	Clock    func() time.Time
	Log      *slog.Logger

	mu      sync.Mutex
	samples map[string][]Sample // by id, oldest first; guarded by mu
}

// Look takes a sample of each machine that runs, and forgets those that are
// gone.
func (m *Meter) Look(ctx context.Context) {
	m.forget()
	var all errgroup.Group
	all.SetLimit(atOnce)
	for _, id := range m.Machines.Running() {
		all.Go(func() error { m.sample(ctx, id); return nil })
	}
	_ = all.Wait() // none fails
}

// sample takes one. A guest that does not answer has none.
func (m *Meter) sample(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := m.Machines.Read(ctx, id)
	if err != nil {
		m.Log.DebugContext(ctx, "machine is not metered", "sandbox", id, "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.samples == nil {
		m.samples = map[string][]Sample{}
	}
	s := Sample{At: m.Clock(), Reading: r}
	have := m.samples[id]
	if len(have) > 0 {
		s.CPUUsed = s.share(have[len(have)-1])
	}
	if len(have) == kept {
		have = slices.Delete(have, 0, 1)
	}
	m.samples[id] = append(have, s)
}

// share is how much of its processors a machine has used since an earlier
// sample. One that was started or put back in between has used none.
func (s Sample) share(before Sample) float64 {
	past, busy := s.At.Sub(before.At), s.CPUBusy-before.CPUBusy
	if past <= 0 || busy < 0 || s.CPUs < 1 {
		return 0
	}
	return min(100, 100*float64(busy)/float64(past)/float64(s.CPUs))
}

// Samples returns what is remembered of a machine, oldest first. One of which
// nothing is yet is asked now.
func (m *Meter) Samples(ctx context.Context, id string) []Sample {
	all := m.remembered(id)
	if len(all) == 0 && slices.Contains(m.Machines.Running(), id) {
		m.sample(ctx, id)
		all = m.remembered(id)
	}
	return all
}

func (m *Meter) remembered(id string) []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.samples[id])
}

func (m *Meter) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.samples {
		if !m.Machines.Exists(id) {
			delete(m.samples, id)
		}
	}
}
