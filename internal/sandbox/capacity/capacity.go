// Package capacity says whether the host has room for one more machine.
//
// It is pure: it counts what it is told of. That the pool has room is the pool's
// own matter.
package capacity

import (
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/live"
)

// Limits bound all sandboxes together; 0 is no limit.
type Limits struct {
	// Sandboxes is how many there may be, Snapshots how many each may have.
	Sandboxes, Snapshots int
	// PoolMiB is how much of the pool a sandbox may have taken, machine and
	// snapshots together, for another snapshot to be taken of it.
	PoolMiB int
	// MemoryMiB and CPUs are of machines that run.
	MemoryMiB, CPUs int
	// Team is how many sandboxes one team may have.
	Team int
}

// Taken is what there is.
type Taken struct {
	Sandboxes       int
	MemoryMiB, CPUs int
}

// Add counts a sandbox, and its machine if that runs.
func (t *Taken) Add(runs bool, size live.Size) {
	t.Sandboxes++
	if runs {
		t.Start(size)
	}
}

// Start counts machines that run.
func (t *Taken) Start(sizes ...live.Size) {
	for _, size := range sizes {
		t.MemoryMiB += size.MemoryMiB
		t.CPUs += size.CPUs
	}
}

// Another refuses a sandbox more than there may be. The error is
// fault.Exhausted, as are those of all of these but AnotherOf.
func (l Limits) Another(t Taken) error {
	if l.Sandboxes > 0 && t.Sandboxes >= l.Sandboxes {
		return fault.New(fault.Exhausted, "there are %d sandboxes, as many as there may be", t.Sandboxes).
			Hint("remove one (bulkhead ls), or raise limits.sandboxes")
	}
	return nil
}

// AnotherOf refuses a sandbox more than a team may have, which has so many. The
// error is fault.Limited: the host has room, and other teams may use it.
func (l Limits) AnotherOf(have int) error {
	if l.Team > 0 && have >= l.Team {
		return fault.New(fault.Limited, "the team has %d sandboxes, as many as it may have", have).
			Hint("remove one (bulkhead ls), or raise limits.team_sandboxes")
	}
	return nil
}

// Start refuses to start a machine for which there is no memory or processor.
func (l Limits) Start(t Taken, size live.Size) error {
	if l.MemoryMiB > 0 && t.MemoryMiB+size.MemoryMiB > l.MemoryMiB {
		return fault.New(fault.Exhausted, "machines have %d of %d MiB of memory, and this one needs %d", t.MemoryMiB, l.MemoryMiB, size.MemoryMiB).
			Hint("pause one (bulkhead ls), or raise limits.memory_mib")
	}
	if l.CPUs > 0 && t.CPUs+size.CPUs > l.CPUs {
		return fault.New(fault.Exhausted, "machines have %d of %d CPUs, and this one needs %d", t.CPUs, l.CPUs, size.CPUs).
			Hint("pause one (bulkhead ls), or raise limits.cpus")
	}
	return nil
}

// Snapshot refuses a snapshot more than a sandbox may have.
func (l Limits) Snapshot(have int) error {
	if l.Snapshots > 0 && have >= l.Snapshots {
		return fault.New(fault.Exhausted, "it has %d snapshots, as many as it may have", have).
			Hint("remove some (bulkhead timeline rm), keep fewer (bulkhead schedule --keep), or raise limits.snapshots")
	}
	return nil
}

// Room refuses a snapshot of a sandbox that has too much of the pool. taken, in
// bytes, is asked for only if that is limited.
func (l Limits) Room(has func() (taken int64, err error)) error {
	if l.PoolMiB == 0 {
		return nil
	}
	taken, err := has()
	if err != nil {
		return err
	}
	if taken>>20 >= int64(l.PoolMiB) {
		return fault.New(fault.Exhausted, "it has %d MiB of the pool, of %d that it may have", taken>>20, l.PoolMiB).
			Hint("remove snapshots (bulkhead timeline rm), keep fewer (bulkhead schedule --keep), or raise limits.pool_mib")
	}
	return nil
}
