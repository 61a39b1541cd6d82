package meter_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"bulkhead/internal/meter"
)

// machines are those of a test.
type machines map[string]*meter.Reading

func (m machines) Running() (ids []string) {
	for id, r := range m {
		if r != nil {
			ids = append(ids, id)
		}
	}
	return ids
}
func (m machines) Exists(id string) bool { _, ok := m[id]; return ok }
func (m machines) Read(_ context.Context, id string) (meter.Reading, error) {
	if m[id].CPUs == 0 {
		return meter.Reading{}, errors.New("it does not answer")
	}
	return *m[id], nil
}

func TestSamples(t *testing.T) {
	now := time.Unix(1000, 0)
	busy := &meter.Reading{CPUs: 2, MemTotal: 512}
	have := machines{"busy": busy, "silent": {}, "paused": nil}
	m := &meter.Meter{Machines: have, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	if got := m.Samples(t.Context(), "busy"); len(got) != 1 || got[0].MemTotal != 512 || got[0].CPUUsed != 0 {
		t.Errorf("one that was never looked at: %+v", got)
	}
	for _, worked := range []time.Duration{10 * time.Second, 10 * time.Second, 0, -time.Second} {
		now = now.Add(10 * time.Second)
		busy.CPUBusy += worked
		m.Look(t.Context())
	}
	var shares []float64
	for _, s := range m.Samples(t.Context(), "busy") {
		shares = append(shares, s.CPUUsed)
	}
	if want := []float64{0, 50, 50, 0, 0}; len(shares) != len(want) || shares[1] != 50 || shares[2] != 50 || shares[4] != 0 {
		t.Errorf("shares are %v, want %v", shares, want)
	}
	for _, id := range []string{"silent", "paused", "unknown"} {
		if got := m.Samples(t.Context(), id); len(got) != 0 {
			t.Errorf("of %s there is %v", id, got)
		}
	}
	delete(have, "busy")
	m.Look(t.Context())
	if got := m.Samples(t.Context(), "busy"); len(got) != 0 {
		t.Errorf("of one that is gone there is %v", got)
	}
}

func TestOldSamplesMakeRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	m := &meter.Meter{
		Machines: machines{"i1": {CPUs: 1}}, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	}
	for range 1000 {
		now = now.Add(time.Second)
		m.Look(t.Context())
	}
	if got := m.Samples(t.Context(), "i1"); len(got) != 720 || !got[719].At.Equal(now) {
		t.Errorf("%d samples, the last at %v", len(got), got[len(got)-1].At)
	}
}
