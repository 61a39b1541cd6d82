package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/journal"
	"bulkhead/internal/network"
	"bulkhead/internal/pool"
)

// Release ends every VMM of the state directory and unmounts its pool. What
// is on disk stays. A daemon that lives is refused, or ended first with
// force. Finding nothing is no error.
func (d *Daemon) Release(ctx context.Context, force bool) error {
	if _, err := os.Stat(d.Config.StateDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := d.takeOver(ctx, force)
	if err != nil {
		return err
	}
	defer lock.Release()
	cages, err := d.jail()
	if err != nil {
		return err
	}
	runs, err := os.ReadDir(filepath.Join(d.Config.StateDir, "run"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read run directories: %w", err)
	}
	for _, r := range runs {
		if err := network.Remove(d.linkPath(r.Name())); err != nil {
			return fmt.Errorf("remove network of %s: %w", r.Name(), err)
		}
		if err := cages.Reap(ctx, filepath.Join(d.Config.StateDir, "run", r.Name())); err != nil {
			return fmt.Errorf("end VMM of %s: %w", r.Name(), err)
		}
	}
	cfg, err := d.poolConfig()
	if err != nil {
		return err
	}
	return pool.Release(ctx, cfg)
}

// takeOver takes the lock, ending the daemon that has it if force says so.
func (d *Daemon) takeOver(ctx context.Context, force bool) (*journal.Lock, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		lock, err := journal.AcquireLock(d.Config.StateDir)
		if !force || !fault.Is(err, fault.Unavailable) {
			return lock, err
		}
		if err := journal.EndHolder(d.Config.StateDir); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("end the daemon: %w", ctx.Err())
		}
	}
}
