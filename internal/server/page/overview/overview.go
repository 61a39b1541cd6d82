// Package overview knows what all sandboxes do now and what they took in the
// last hour, and tells those who watch.
//
// It samples what the host knows of each machine (processor time, memory,
// connections) and asks guests only what was started in them, and only while
// somebody watches. It must not know where the numbers come from. A Sampler is
// safe for concurrent use.
package overview

import (
	"context"
	"sync"
	"time"

	"bulkhead/client"
)

const (
	// fresh is how long a sample is good enough for another watcher.
	fresh = time.Second
	// doingLimit bounds how long guests may take to say what runs in them. They
	// answer in milliseconds, or have other problems.
	doingLimit = 500 * time.Millisecond
	// maxDoing and maxCommand bound what is kept of what a guest says.
	maxDoing, maxCommand = 3, 200
)

// Source is where an overview comes from. It sees the sandboxes of all teams.
type Source interface {
	// Sandboxes lists all, oldest first.
	Sandboxes(ctx context.Context) ([]client.Sandbox, error)
	// Traffic counts connections that were allowed, and refusals.
	Traffic(id string) (allowed, denied int, err error)
	// Newest returns the newest snapshot, nil if there is none.
	Newest(id string) (*client.SnapshotMark, error)
	// Doing asks the guest of a running sandbox which commands run in it, the
	// newest first. It must not count as use of the machine.
	Doing(ctx context.Context, id string) ([]string, error)
	Pending(ctx context.Context) ([]client.EgressQuestion, error)
	Host(ctx context.Context) (client.HostLoad, error)
}

// Sampler keeps the last sample and the last hour.
type Sampler struct {
	Source Source
	// ProcessorTime is what a process has had of the host's CPUs.
	ProcessorTime func(pid int) (time.Duration, error)
	// LastEvent is the number of the latest event.
	LastEvent func() uint64
	Clock     func() time.Time

	// looking is held while a sample is taken, so that watchers share one.
	looking sync.Mutex
	last    client.Overview   // guarded by looking
	taken   time.Time         // guarded by looking
	meters  map[string]*meter // guarded by looking
}

// Record samples for the hour's history. It asks no guest. Call it a few times
// a minute.
func (s *Sampler) Record(ctx context.Context) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	all, err := s.Source.Sandboxes(ctx)
	if err == nil {
		s.measure(all)
	}
	return err
}

// Look returns what all sandboxes do now. since, if not zero, is when something
// has happened that the answer has to know of.
func (s *Sampler) Look(ctx context.Context, since time.Time) (client.Overview, error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if now := s.Clock(); now.Sub(s.taken) < fresh && s.taken.After(since) {
		return s.last, nil
	}
	taken := s.Clock()
	o, err := s.look(ctx)
	if err == nil {
		s.last, s.taken = o, taken
	}
	return o, err
}

// look takes a sample. The caller holds looking.
func (s *Sampler) look(ctx context.Context) (o client.Overview, err error) {
	o.LastEvent = s.LastEvent()
	if o.Host, err = s.Source.Host(ctx); err != nil {
		return o, err
	}
	if o.Pending, err = s.Source.Pending(ctx); err != nil {
		return o, err
	}
	if o.Pending == nil {
		o.Pending = []client.EgressQuestion{}
	}
	all, err := s.Source.Sandboxes(ctx)
	if err != nil {
		return o, err
	}
	s.measure(all)
	o.Sandboxes = make([]client.Activity, len(all))
	for i, box := range all {
		a := client.Activity{Sandbox: box, Doing: []string{}}
		if a.Allowed, a.Denied, err = s.Source.Traffic(box.ID); err != nil {
			return o, err
		}
		if a.LastSnapshot, err = s.Source.Newest(box.ID); err != nil {
			return o, err
		}
		a.CPUPercent, a.Hour = s.meters[box.ID].now, s.meters[box.ID].hour(s.Clock())
		o.Sandboxes[i] = a
	}
	s.ask(ctx, o.Sandboxes)
	return o, nil
}

// measure reads what each machine takes, and forgets those that are gone.
func (s *Sampler) measure(all []client.Sandbox) {
	now := s.Clock()
	meters := map[string]*meter{}
	for _, box := range all {
		m := s.meters[box.ID]
		if m == nil {
			m = &meter{}
		}
		meters[box.ID] = m
		if box.VMM == nil {
			m.read(now, reading{})
			continue
		}
		// One that has just ended takes nothing.
		cpu, err := s.ProcessorTime(box.VMM.PID)
		if err != nil {
			m.read(now, reading{})
			continue
		}
		m.read(now, reading{pid: box.VMM.PID, cpu: cpu, memory: box.MemoryUsedMB})
	}
	s.meters = meters
}

// ask asks the guests of running sandboxes, all at once, what runs in them. One
// that does not answer is not waited for.
func (s *Sampler) ask(ctx context.Context, all []client.Activity) {
	ctx, cancel := context.WithTimeout(ctx, doingLimit)
	defer cancel()
	var asked sync.WaitGroup
	for i := range all {
		a := &all[i]
		if a.State != client.StateRunning {
			continue
		}
		asked.Go(func() {
			if doing, err := s.Source.Doing(ctx, a.ID); err == nil {
				a.Doing = bounded(doing)
			}
		})
	}
	asked.Wait()
}

func bounded(doing []string) []string {
	doing = doing[:min(len(doing), maxDoing)]
	short := make([]string, len(doing))
	for i, command := range doing {
		short[i] = command[:min(len(command), maxCommand)]
	}
	return short
}
