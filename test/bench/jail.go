package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bulkhead/internal/cgroup"
	"bulkhead/internal/config"
	"bulkhead/internal/jail"
	"bulkhead/internal/jail/root"
	"bulkhead/internal/jail/seccomp"
)

// jail is the daemon's, for what is done by hand.
func (b *bench) jail() (*jail.Jail, error) {
	return jail.New(jail.Config{
		Dir: filepath.Join(b.host.Dir, "jail"), Leases: jail.DefaultLeases,
		FirstUID: config.DefaultJailFirstUID, UIDs: config.DefaultJailUIDs,
		Log: slog.New(slog.DiscardHandler),
	})
}

// cage compares a start in a cage with a bare one: of a program that ends at
// once, so that nothing but the start is seen.
func (b *bench) cage(ctx context.Context) error {
	const program = "/usr/bin/true"
	j, err := b.jail()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.host.Dir, "cage")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := jail.Cage{
		Name: "bench", Dir: dir, Program: root.Program{Path: program},
		Limits: jail.Limits{
			FileBytes: 1 << 20, OpenFiles: 64,
			Group: cgroup.Limits{MemoryBytes: 256 << 20, CPUWeight: 100, CPUQuota: 1, PIDs: 64},
		},
		Syscalls: seccomp.List{Allow: strings.Fields(`execve arch_prctl brk mmap munmap mprotect access openat
			close read pread64 newfstatat set_tid_address set_robust_list rseq prlimit64 getrandom exit_group`)},
	}
	var ours, hand []time.Duration
	for range 4 * rounds {
		var p *jail.Process
		took, err := timed(func() (err error) {
			p, err = j.Start(ctx, c)
			return err
		})
		if err != nil {
			return err
		}
		<-p.Done()
		cmd := exec.CommandContext(ctx, program)
		bare, err := timed(cmd.Start)
		if err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		ours, hand = append(ours, took), append(hand, bare)
	}
	h := median(hand)
	b.print(comparison{"start of a program in a cage", median(ours), h, h + 30*time.Millisecond, "by hand + 30 ms"})
	return nil
}
