// Package lifecycle is the state table of a sandbox: which state follows
// which, and what may be asked for when.
//
//	creating ──started──► running ◄─────────────ended───── snapshotting
//	    │                 │  │  └───────snapshot──────────────▲
//	  failed              │  ├──powered off──► stopped ──┐
//	    ▼                 │  └──────died─────► crashed ──┤
//	   gone               │                              │ start, rollback
//	    ▲                 ▼                              ▼
//	 removed          starting, rolling_back ──started──► running
//	    │                 └────────failed───────────────► crashed
//	removing ◄──remove── (every state but creating and gone)
//
//	running ──pause──► pausing ──written out──► paused ──resume──► resuming ──started──► running
//	running ──suspend──► suspending ──stood still──► suspended ──wake──► running
//
// Between running and held a machine goes back and forth as the pool runs out
// of room and gets some again. A guest that reboots goes from running to starting. The table is pure: no
// I/O, no locks, no clock. Whoever owns a sandbox applies the events in the
// order in which they happened.
package lifecycle

import "fmt"

// State is what a sandbox is doing.
type State string

// The states. Gone is never stored: nothing is left to store it for.
const (
	Creating     State = "creating"
	Starting     State = "starting"
	Running      State = "running"
	Snapshotting State = "snapshotting"
	// Held: the machine stands still because the pool has no room left for
	// what it might write.
	Held State = "held"
	// Suspending: the machine is about to stand still; Suspended: it does, in
	// memory, because nothing happens in it.
	Suspending State = "suspending"
	Suspended  State = "suspended"
	// Pausing: the machine is written out, and ended once it is; Paused: it is
	// a snapshot and nothing else.
	Pausing     State = "pausing"
	Paused      State = "paused"
	Resuming    State = "resuming"
	RollingBack State = "rolling_back"
	Stopped     State = "stopped"
	Crashed     State = "crashed"
	Removing    State = "removing"
	Gone        State = "gone"
)

// States lists every state.
func States() []State {
	return []State{
		Creating, Starting, Running, Snapshotting, Held, Suspending, Suspended, Pausing, Paused, Resuming,
		RollingBack, Stopped, Crashed, Removing, Gone,
	}
}

// Event is something that was asked for or that happened.
type Event string

// Events that are asked for.
const (
	Start Event = "start"
	// Restart ends the machine, if it runs, and boots it from its disk.
	Restart  Event = "restart"
	Snapshot Event = "snapshot"
	Rollback Event = "rollback"
	Pause    Event = "pause"
	Resume   Event = "resume"
	Remove   Event = "remove"
	// Prune removes snapshots; the machine is not touched.
	Prune Event = "prune"
	// Adjust changes what is wanted for a sandbox; the machine is not touched.
	Adjust Event = "adjust"
	// Hold stops a running machine for want of room, Release lets it go on.
	Hold    Event = "hold"
	Release Event = "release"
	// Suspend stops a running machine in memory, Wake lets it go on.
	Suspend Event = "suspend"
	Wake    Event = "wake"
)

// Events that happen.
const (
	// Started: the machine runs and its guest confirmed that it is right.
	Started Event = "started"
	// Ended: what was under way is over or was given up, and the machine runs.
	Ended Event = "ended"
	// StoodStill: the machine is frozen and its virtual CPUs are stopped.
	StoodStill Event = "stood_still"
	// WrittenOut: the machine is a snapshot, and its VMM is about to be ended.
	WrittenOut Event = "written_out"
	// Failed: what was under way failed and its machine does not run.
	Failed Event = "failed"
	// PoweredOff, Rebooted and Died say how a VMM ended.
	PoweredOff Event = "powered_off"
	Rebooted   Event = "rebooted"
	Died       Event = "died"
	// Removed: nothing of the sandbox is left.
	Removed Event = "removed"
)

// Events lists every event.
func Events() []Event {
	return []Event{
		Start, Restart, Snapshot, Rollback, Pause, Resume, Remove, Prune, Adjust, Hold, Release, Suspend, Wake,
		Started, Ended, StoodStill, WrittenOut, Failed, PoweredOff, Rebooted, Died, Removed,
	}
}

// next is the whole table; a pair that is not in it is refused.
func next(s State, e Event) (State, bool) {
	switch s {
	case Creating:
		return pick(e, map[Event]State{Started: Running, Failed: Gone})
	case Running:
		return pick(e, map[Event]State{
			Snapshot: Snapshotting, Rollback: RollingBack, Pause: Pausing, Remove: Removing, Restart: Starting,
			PoweredOff: Stopped, Rebooted: Starting, Died: Crashed, Prune: Running, Adjust: Running, Hold: Held,
			Suspend: Suspending,
		})
	case Held:
		return pick(e, map[Event]State{
			Release: Running, Rollback: RollingBack, Remove: Removing, Prune: Held, Adjust: Held,
			PoweredOff: Stopped, Rebooted: Starting, Died: Crashed,
		})
	case Snapshotting:
		return pick(e, map[Event]State{Ended: Running, Failed: Crashed})
	case Suspending:
		return pick(e, map[Event]State{StoodStill: Suspended, Ended: Running, Failed: Crashed})
	case Suspended:
		return pick(e, map[Event]State{
			Wake: Running, Remove: Removing, Restart: Starting, Prune: Suspended,
			PoweredOff: Stopped, Rebooted: Starting, Died: Crashed,
		})
	case Pausing:
		return pick(e, map[Event]State{WrittenOut: Paused, Ended: Running, Failed: Crashed})
	case Paused:
		return pick(e, map[Event]State{Resume: Resuming, Rollback: RollingBack, Remove: Removing, Prune: Paused, Adjust: Paused})
	case Resuming:
		// What it is resumed from is still there.
		return pick(e, map[Event]State{Started: Running, Failed: Paused})
	case Starting, RollingBack:
		return pick(e, map[Event]State{Started: Running, Failed: Crashed})
	case Stopped, Crashed:
		return pick(e, map[Event]State{Start: Starting, Restart: Starting, Rollback: RollingBack, Remove: Removing, Prune: s, Adjust: s})
	case Removing:
		// A removal that a crash interrupted is asked for again.
		return pick(e, map[Event]State{Remove: Removing, Removed: Gone})
	}
	return "", false
}

func pick(e Event, row map[Event]State) (State, bool) {
	s, ok := row[e]
	return s, ok
}

// RefusedError says that an event does not fit a state.
type RefusedError struct {
	State State
	Event Event
}

// Error says it for the user: "cannot snapshot while crashed".
func (e *RefusedError) Error() string {
	if e.Event == Resume && e.State == Running || e.Event == Pause && e.State == Paused {
		return fmt.Sprintf("it is %s already", e.State)
	}
	return fmt.Sprintf("cannot %s while %s", e.Event, e.State)
}

// Next returns the state that follows s after e, or a *RefusedError.
func Next(s State, e Event) (State, error) {
	n, ok := next(s, e)
	if !ok {
		return s, &RefusedError{State: s, Event: e}
	}
	return n, nil
}

// Live reports whether a VMM exists in state s as a rule: these are the
// states in which a daemon that starts looks for one.
func (s State) Live() bool {
	switch s {
	case Running, Snapshotting, Held, Suspending, Suspended, Pausing, Resuming, Starting, RollingBack:
		return true
	}
	return false
}

// StandsStill reports whether a machine in state s is stopped by us, so that
// nothing in it answers.
func (s State) StandsStill() bool { return s == Held || s == Suspended }

// Down reports whether a sandbox in state s stays in it until somebody brings it
// back.
func (s State) Down() bool { return s == Crashed || s == Stopped || s == Held || s == Paused }

// WayBack is the command that brings a sandbox back that is down. It has a name
// and was last equal to a snapshot, "" for none.
func WayBack(s State, name, head string) string {
	switch {
	case s == Held: // it goes on once there is room
		return "bulkhead timeline rm " + name + " SNAPSHOT"
	case s == Paused:
		return "bulkhead resume " + name
	case head != "":
		return "bulkhead rollback " + name + " " + head
	}
	return "bulkhead start " + name
}

// Interrupted returns the state in which a daemon that starts has to consider
// a sandbox that was in s when the last daemon died. vmm says whether its VMM
// still runs. Gone means that what exists of it is to be removed.
func (s State) Interrupted(vmm bool) State {
	switch s {
	case Creating, Removing, Gone:
		return Gone
	case Resuming:
		return Paused
	case Running, Snapshotting, Held, Suspending, Pausing:
		if vmm {
			return Running
		}
		return Crashed
	case Suspended:
		if vmm {
			return Suspended
		}
		return Crashed
	case Starting, RollingBack:
		// The new machine was never confirmed to be right.
		return Crashed
	}
	return s
}
