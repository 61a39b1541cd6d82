package lifecycle_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"bulkhead/internal/sandbox/lifecycle"
)

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name string
		from lifecycle.State
		evs  []lifecycle.Event
		want lifecycle.State
	}{
		{"created", lifecycle.Creating, evs(lifecycle.Started), lifecycle.Running},
		{"creation fails and leaves nothing", lifecycle.Creating, evs(lifecycle.Failed), lifecycle.Gone},
		{"snapshot ends", lifecycle.Running, evs(lifecycle.Snapshot, lifecycle.Ended), lifecycle.Running},
		{"dies in a snapshot", lifecycle.Running, evs(lifecycle.Snapshot, lifecycle.Failed), lifecycle.Crashed},
		{"rolled back from a crash", lifecycle.Running, evs(lifecycle.Died, lifecycle.Rollback, lifecycle.Started), lifecycle.Running},
		{"rollback fails, second try works", lifecycle.Running, evs(lifecycle.Rollback, lifecycle.Failed, lifecycle.Rollback, lifecycle.Started), lifecycle.Running},
		{"reboots", lifecycle.Running, evs(lifecycle.Rebooted, lifecycle.Started), lifecycle.Running},
		{"powers off and is started", lifecycle.Running, evs(lifecycle.PoweredOff, lifecycle.Start, lifecycle.Started), lifecycle.Running},
		{"pauses and is resumed", lifecycle.Running, evs(lifecycle.Pause, lifecycle.WrittenOut, lifecycle.Resume, lifecycle.Started), lifecycle.Running},
		{"cannot be written out and runs on", lifecycle.Running, evs(lifecycle.Pause, lifecycle.Ended), lifecycle.Running},
		{"is not resumed and stays what it was", lifecycle.Running, evs(lifecycle.Pause, lifecycle.WrittenOut, lifecycle.Resume, lifecycle.Failed), lifecycle.Paused},
		{"stands still and is woken", lifecycle.Running, evs(lifecycle.Suspend, lifecycle.StoodStill, lifecycle.Wake), lifecycle.Running},
		{"comes to be used before it stands still", lifecycle.Running, evs(lifecycle.Suspend, lifecycle.Ended), lifecycle.Running},
		{"dies while it stands still", lifecycle.Running, evs(lifecycle.Suspend, lifecycle.StoodStill, lifecycle.Died), lifecycle.Crashed},
		{"removal is repeated", lifecycle.Crashed, evs(lifecycle.Remove, lifecycle.Remove, lifecycle.Removed), lifecycle.Gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.from
			for _, e := range tt.evs {
				var err error
				if s, err = lifecycle.Next(s, e); err != nil {
					t.Fatal(err)
				}
			}
			if s != tt.want {
				t.Errorf("ends in %s, want %s", s, tt.want)
			}
		})
	}
}

func TestRefusalsInWords(t *testing.T) {
	for want, e := range map[string]lifecycle.RefusedError{
		"cannot snapshot while crashed": {State: lifecycle.Crashed, Event: lifecycle.Snapshot},
		"it is running already":         {State: lifecycle.Running, Event: lifecycle.Resume},
		"it is paused already":          {State: lifecycle.Paused, Event: lifecycle.Pause},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%s in %s: %s", e.Event, e.State, got)
		}
	}
}

func TestNextRefuses(t *testing.T) {
	for _, tt := range []struct {
		s lifecycle.State
		e lifecycle.Event
	}{
		{lifecycle.Running, lifecycle.Start},
		{lifecycle.Snapshotting, lifecycle.Rollback},
		{lifecycle.Creating, lifecycle.Snapshot},
		{lifecycle.Removing, lifecycle.Rollback},
		{lifecycle.Crashed, lifecycle.Snapshot},
		{lifecycle.Crashed, lifecycle.Pause},
		{lifecycle.Running, lifecycle.Resume},
		{lifecycle.Running, lifecycle.Wake},
		{lifecycle.Suspended, lifecycle.Snapshot}, // it has to go on first
		{lifecycle.Suspended, lifecycle.Hold},     // it writes nothing
	} {
		got, err := lifecycle.Next(tt.s, tt.e)
		var refused *lifecycle.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s in %s: got %s, %v; want a refusal", tt.e, tt.s, got, err)
		}
		if got != tt.s {
			t.Errorf("%s in %s: a refusal changed the state to %s", tt.e, tt.s, got)
		}
	}
}

// Whatever happens in whatever order: the state is a known one, nothing
// follows gone, and a settled sandbox can always be removed.
func TestRandomEvents(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	states := map[lifecycle.State]bool{}
	for _, s := range lifecycle.States() {
		states[s] = false
	}
	events := lifecycle.Events()
	for range 2000 {
		s := lifecycle.Creating
		for range 40 {
			n, err := lifecycle.Next(s, events[rng.IntN(len(events))])
			if err == nil && s == lifecycle.Gone {
				t.Fatalf("gone became %s", n)
			}
			if _, known := states[n]; !known {
				t.Fatalf("%s led to unknown state %q", s, n)
			}
			states[n] = true
			s = n
		}
		for _, settled := range []lifecycle.State{lifecycle.Running, lifecycle.Stopped, lifecycle.Crashed, lifecycle.Paused, lifecycle.Suspended} {
			if n, err := lifecycle.Next(settled, lifecycle.Remove); err != nil || n != lifecycle.Removing {
				t.Fatalf("remove in %s: %s, %v", settled, n, err)
			}
		}
	}
	for s, reached := range states {
		if !reached {
			t.Errorf("state %s was never reached", s)
		}
	}
}

func TestInterrupted(t *testing.T) {
	for _, s := range lifecycle.States() {
		for _, vmm := range []bool{false, true} {
			got := s.Interrupted(vmm)
			if (got == lifecycle.Running || got == lifecycle.Suspended) && !vmm {
				t.Errorf("%s without a VMM counts as %s", s, got)
			}
			if s == lifecycle.Suspended && vmm && got != s {
				t.Errorf("a machine that stands still counts as %s", got)
			}
			if again := got.Interrupted(vmm); got != lifecycle.Gone && again != got {
				t.Errorf("%s: interrupted twice gives %s, then %s", s, got, again)
			}
		}
	}
}

func evs(e ...lifecycle.Event) []lifecycle.Event { return e }
