// Package look brings a snapshot up as a machine that exists only to be looked
// into: for the files that it has, or to run a command in the past. Its disk is
// read by its own kernel behind the walls of a VMM, never by this host's.
//
// Such a machine talks to nobody, and nothing that it does outlives it. look
// must not know records or states. A Looker is safe for concurrent use.
package look

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"time"

	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
)

// prefix begins the ids of these machines: those of sandboxes begin with i.
const prefix = "l"

// endLimit is how long the end of a machine may take whose user has gone.
const endLimit = 30 * time.Second

// Owns reports whether a machine is one to be looked into.
func Owns(id pool.MachineID) bool { return len(id) > 0 && string(id[:1]) == prefix }

// Looker brings snapshots up.
type Looker struct {
	Machines *live.Runner
	// Ended is called once for each machine that Open was asked for, when nothing is
	// left of it; nil for nobody.
	Ended func()
}

// Look is a machine that is looked into. It carries HTTP to its agent.
type Look struct {
	http.RoundTripper
	looker  Looker
	id      pool.MachineID
	machine *live.Machine
	ended   sync.Once
}

// Open brings a snapshot up. In one that is frozen nothing runs but the agent.
// The caller closes it.
func (l Looker) Open(ctx context.Context, s pool.Snapshot, frozen bool) (_ *Look, err error) {
	random := make([]byte, 10)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	look := &Look{looker: l, id: pool.MachineID(prefix + hex.EncodeToString(random))}
	defer func() {
		if err != nil {
			err = errors.Join(err, look.Close())
		}
	}()
	if err := l.Machines.Claim(ctx, look.id); err != nil {
		return nil, err
	}
	if err := l.Machines.Network.Isolate(ctx, string(look.id)); err != nil {
		return nil, err
	}
	if _, err := l.Machines.Pool.NewMachine(ctx, look.id, s.ID); err != nil {
		return nil, err
	}
	size := live.Size{CPUs: s.CPUs, MemoryMiB: s.MemoryMiB}
	if frozen {
		look.machine, err = l.Machines.RestoreFrozen(ctx, look.id, size)
	} else {
		look.machine, err = l.Machines.Restore(ctx, look.id, size, nil)
	}
	if err != nil {
		return nil, err
	}
	look.RoundTripper = live.Attend(look.machine.Guest, func() bool { return false })
	return look, nil
}

// Close ends the machine and removes all that it has. It can be repeated.
func (l *Look) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	if l.machine != nil {
		if err := l.machine.Kill(ctx); err != nil {
			return err
		}
	}
	if err := l.looker.Machines.Discard(ctx, l.id); err != nil {
		return err
	}
	if l.looker.Ended != nil {
		l.ended.Do(l.looker.Ended)
	}
	return nil
}

// Sweep removes what an earlier daemon left, given all machines.
func (l Looker) Sweep(ctx context.Context, machines []pool.MachineID) error {
	for _, id := range machines {
		if !Owns(id) {
			continue
		}
		if err := l.Machines.Discard(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
