// Command bench prints the performance budgets of the specification, each
// next to the same thing done by hand with the bare VMM in the same run on
// the same files. Absolute times mean little on a shared machine; ratios do.
//
// By hand means: reflink the files of the template's snapshot, start the VMM
// through the driver alone, in its cage, and speak to the agent directly. No daemon, no
// database, no records.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"bulkhead/client"
	"bulkhead/internal/jail"
	"bulkhead/test/bench/idle"
	"bulkhead/test/harness"
)

func main() {
	jail.Enter()
	do := run
	if slices.Equal(os.Args[1:], []string{idle.Arg}) {
		do = idle.Serve
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// rounds is how often each thing is measured; the median counts.
const rounds = 9

// run prints the rows that the arguments name, or all.
func run() (err error) {
	ctx := context.Background()
	h, err := harness.Start("--listen", "127.0.0.1:0", "--log-level", "info")
	if err != nil {
		return err
	}
	defer func() {
		if cerr := h.Close(); err == nil {
			err = cerr
		}
	}()
	if r := h.CLI("template", "build", "base"); r.Code != 0 {
		return fmt.Errorf("build template: %s", r.Stderr)
	}
	b := &bench{host: h, client: client.New(h.Socket())}
	fmt.Printf("%-46s %10s %10s %7s  %s\n", "what", "bulkhead", "by hand", "ratio", "budget")
	for _, row := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"cage", b.cage}, {"create", b.createAndFirstExec}, {"rollback", b.rollback}, {"pause", b.pause}, {"ten", b.ten}, {"fork", b.fork},
		{"stopped", b.stopped}, {"exec", b.warmExec}, {"egress", b.egress}, {"memory", b.memory}, {"load", b.load},
	} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], row.name) {
			continue
		}
		if err := row.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	if b.missed > 0 {
		return fmt.Errorf("%d budgets missed", b.missed)
	}
	return nil
}

type bench struct {
	host   *harness.Host
	client *client.Client
	// missed counts rows that are over their budget.
	missed int
}

// comparison is one row.
type comparison struct {
	what       string
	ours, hand time.Duration
	// limit is what ours may take; budget says it in words.
	limit  time.Duration
	budget string
}

func (b *bench) print(c comparison) {
	verdict := ""
	if c.ours > c.limit {
		verdict = "  MISSED"
		b.missed++
	}
	fmt.Printf("%-46s %7.1f ms %7.1f ms %7.2f  %s%s\n", c.what, ms(c.ours), ms(c.hand), float64(c.ours)/float64(c.hand), c.budget, verdict)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// createAndFirstExec compares a new sandbox with a bare restore, in turns, so
// that a noisy neighbour troubles both.
func (b *bench) createAndFirstExec(ctx context.Context) error {
	var create, first, handStart, handFirst []time.Duration
	for range rounds {
		c, f, err := b.oneCreate(ctx)
		if err != nil {
			return err
		}
		create, first = append(create, c), append(first, c+f)
		m, start, err := b.byHand(ctx)
		if err != nil {
			return err
		}
		exec, err := timed(func() error { return m.exec(ctx, "true") })
		if err := m.end(ctx, err); err != nil {
			return err
		}
		handStart, handFirst = append(handStart, start), append(handFirst, start+exec)
	}
	hs, hf := median(handStart), median(handFirst)
	b.print(comparison{"create, until its guest says that it is right", median(create), hs, hs + 50*time.Millisecond, "by hand + 50 ms"})
	b.print(comparison{"create, until the first exec has ended", median(first), hf, hf * 13 / 10, "1.3 x by hand"})
	return nil
}

func (b *bench) oneCreate(ctx context.Context) (create, exec time.Duration, err error) {
	var s client.Sandbox
	create, err = timed(func() (err error) {
		s, err = b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	exec, err = timed(func() error { return b.exec(ctx, s.ID, "true") })
	if err != nil {
		return 0, 0, err
	}
	return create, exec, b.client.Remove(ctx, s.ID)
}

func (b *bench) exec(ctx context.Context, id, cmd string, args ...string) error {
	code, err := b.client.Exec(ctx, client.Exec{Sandbox: id, Cmd: cmd, Args: args, Stdout: os.Stderr, Stderr: os.Stderr})
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with %d", cmd, code)
	}
	return err
}

// rollback compares with a bare restore, plus ending the VMM before it.
func (b *bench) rollback(ctx context.Context) error {
	s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	snap, err := b.client.Snapshot(ctx, s.ID, client.SnapshotRequest{})
	if err != nil {
		return err
	}
	var ours, kept, hand []time.Duration
	for i := range 2 * rounds {
		req := client.RollbackRequest{Snapshot: snap.ID, Discard: i%2 == 0}
		took, err := timed(func() error {
			_, err := b.client.Rollback(ctx, s.ID, req)
			return err
		})
		if err != nil {
			return err
		}
		if !req.Discard {
			kept = append(kept, took)
			continue
		}
		ours = append(ours, took)
		m, start, err := b.byHand(ctx)
		if err != nil {
			return err
		}
		end, err := timed(func() error { return m.end(ctx, nil) })
		if err != nil {
			return err
		}
		hand = append(hand, start+end)
	}
	h := median(hand)
	b.print(comparison{"rollback, until its guest says that it is right", median(ours), h, h + 50*time.Millisecond, "create's + end of the old VMM"})
	b.print(comparison{"the same, keeping what it leaves", median(kept), h, h + 200*time.Millisecond, "100 ms frozen, 50 ms stopped more"})
	return b.client.Remove(ctx, s.ID)
}

// stopped compares how long the guest stands still in a snapshot after it has
// written 100 MiB.
func (b *bench) stopped(ctx context.Context) error {
	const dirty = `import os
b = bytearray(os.urandom(1 << 20))
with open("/root/dirty", "wb") as f:
    for i in range(100):
        f.write(b)`
	s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	m, _, err := b.byHand(ctx)
	if err != nil {
		return err
	}
	var ours, hand []time.Duration
	for range rounds {
		if err := b.exec(ctx, s.ID, "python3", "-c", dirty); err != nil {
			return m.end(ctx, err)
		}
		snap, err := b.client.Snapshot(ctx, s.ID, client.SnapshotRequest{})
		if err != nil {
			return m.end(ctx, err)
		}
		ours = append(ours, time.Duration(snap.StoppedMS*float64(time.Millisecond)))
		if err := m.exec(ctx, "python3", "-c", dirty); err != nil {
			return m.end(ctx, err)
		}
		stop, err := m.snapshot(ctx)
		if err != nil {
			return m.end(ctx, err)
		}
		hand = append(hand, stop)
	}
	b.print(comparison{"guest stopped in a snapshot, 100 MiB dirtied", median(ours), median(hand), 50 * time.Millisecond, "50 ms"})
	return m.end(ctx, b.client.Remove(ctx, s.ID))
}

// warmExec compares an exec with a bare call over the same channel plus what
// fork and exec cost inside.
func (b *bench) warmExec(ctx context.Context) error {
	s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	m, _, err := b.byHand(ctx)
	if err != nil {
		return err
	}
	const many = 40
	var ours, echo []time.Duration
	for range many {
		took, err := timed(func() error { return b.exec(ctx, s.ID, "true") })
		if err != nil {
			return m.end(ctx, err)
		}
		ours = append(ours, took)
		took, err = timed(func() error { return m.echo(ctx) })
		if err != nil {
			return m.end(ctx, err)
		}
		echo = append(echo, took)
	}
	spawn, err := m.spawn(ctx)
	if err != nil {
		return m.end(ctx, err)
	}
	hand := median(echo) + spawn
	b.print(comparison{"exec true in a warm sandbox, p50", median(ours), hand, 2 * hand, "2 x (echo + fork and exec inside)"})
	return m.end(ctx, b.client.Remove(ctx, s.ID))
}

// memory prints the daemon's resident memory without sandboxes and what each
// of a few adds.
func (b *bench) memory(ctx context.Context) error {
	const mib, count = 1 << 20, 4
	alone, err := harness.Resident(b.host.DaemonPID())
	if err != nil {
		return err
	}
	var ids []string
	for range count {
		s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
		if err != nil {
			return err
		}
		ids = append(ids, s.ID)
	}
	with, err := harness.Resident(b.host.DaemonPID())
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := b.client.Remove(ctx, id); err != nil {
			return err
		}
	}
	verdict := ""
	if with > 40*mib+count*mib {
		verdict = "  MISSED"
		b.missed++
	}
	fmt.Printf("%-46s %6.1f MiB, with %d sandboxes %.1f MiB  40 MiB + 1 MiB each%s\n", "daemon's memory",
		float64(alone)/mib, count, float64(with)/mib, verdict)
	return nil
}
