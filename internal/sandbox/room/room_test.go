package room_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"bulkhead/internal/sandbox/room"
)

const mib = 1 << 20

// host has machines that write, on a pool that has so much left.
type host struct {
	free    int64
	wrote   map[int]int64 // by process
	all     []room.Machine
	guard   room.Guard
	history []string
}

func newHost(machines int) *host {
	h := &host{free: 2000 * mib, wrote: map[int]int64{}}
	for i := range machines {
		h.all = append(h.all, room.Machine{ID: fmt.Sprint("i", i), PID: i})
	}
	h.guard.Written = func(pid int) (int64, error) { return h.wrote[pid], nil }
	return h
}

// write has a machine write, unless it is held, and the guard look.
func (h *host) write(machine int, bytes int64) {
	if m := &h.all[machine]; !m.Held {
		h.wrote[m.PID] += bytes
		h.free -= bytes
	}
	h.look()
}

func (h *host) look() {
	next := h.guard.Look(h.free, h.all)
	for i := range h.all {
		m := &h.all[i]
		if why, hold := next.Hold[m.ID]; hold {
			m.Held = true
			h.history = append(h.history, "hold "+m.ID)
			if !strings.Contains(why, "full") {
				h.history = append(h.history, "without a reason")
			}
		}
		if slices.Contains(next.Release, m.ID) {
			m.Held = false
			h.history = append(h.history, "release "+m.ID)
		}
	}
}

func (h *host) held() (ids []string) {
	for _, m := range h.all {
		if m.Held {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Who fills the pool is held; the neighbours go on, those that write a little
// too, and one that wrote much before the pool ran low.
func TestOnlyTheOffenderIsHeld(t *testing.T) {
	h := newHost(3)
	h.wrote[1] = 100 << 30
	for range 1000 {
		h.write(0, 20*mib)
		h.write(2, mib/8)
	}
	if got := h.held(); !slices.Equal(got, []string{"i0"}) {
		t.Errorf("held are %v", got)
	}
	if h.free < 256*mib {
		t.Errorf("%d MiB are left", h.free/mib)
	}
	h.free = 700 * mib // some room is not enough
	h.look()
	h.free = 900 * mib
	h.look()
	if want := []string{"hold i0", "release i0"}; !slices.Equal(h.history, want) {
		t.Errorf("done is %v, want %v", h.history, want)
	}
}

// When who filled the pool is removed, its room is not free yet. Nobody else is
// held for it meanwhile who has written less, and whoever goes on to fill it is.
func TestOffenderIsRemoved(t *testing.T) {
	h := newHost(2)
	for h.free > 500*mib {
		h.write(0, 20*mib)
	}
	h.all = h.all[1:]
	h.free += 60 * mib // some of it
	h.write(0, 200*mib)
	if got := h.held(); len(got) > 0 {
		t.Errorf("without who filled it held are %v", got)
	}
	h.write(0, 100*mib)
	if got := h.held(); !slices.Equal(got, []string{"i1"}) {
		t.Errorf("once it has filled the rest held are %v", got)
	}
	h.free = 2000 * mib
	h.look()
	for h.free > 500*mib {
		h.write(0, 20*mib)
	}
	if got := h.held(); !slices.Equal(got, []string{"i1"}) {
		t.Errorf("when it fills the room that came held are %v", got)
	}
}

// Who writes alike is held alike, and whatever happens, all are before the pool
// is full.
func TestAllAreHeldBeforeThePoolIsFull(t *testing.T) {
	for name, each := range map[string][]int64{
		"all fill it":         {20 * mib, 19 * mib, 15 * mib},
		"one after the other": {50 * mib, 3 * mib, mib},
		"a file that jumps":   {400 * mib, mib, mib},
	} {
		h := newHost(3)
		for range 2000 {
			for i, n := range each {
				h.write(i, n)
			}
		}
		if got := h.held(); len(got) != 3 && h.free < 256*mib {
			t.Errorf("%s: held are %v, %d MiB are left", name, got, h.free/mib)
		}
		if h.free < 0 {
			t.Errorf("%s: the pool is full", name)
		}
	}
}

// A new VMM begins to count anew, and what cannot be asked is not blamed.
func TestNewMachines(t *testing.T) {
	h := newHost(2)
	h.free = 900 * mib
	h.look()
	h.write(0, 100*mib)
	h.wrote[0] = 0 // rolled back
	h.look()
	h.write(1, 350*mib)
	if got := h.held(); !slices.Equal(got, []string{"i1"}) {
		t.Errorf("held are %v", got)
	}
	var own room.Guard // by what the kernel says
	next := own.Look(100*mib, []room.Machine{{ID: "gone", PID: 1 << 30}})
	if got := slices.Collect(maps.Keys(next.Hold)); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("below the floor held are %v", got)
	}
}
