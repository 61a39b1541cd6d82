package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"bulkhead/client"
)

// pause compares a resume with a bare restore, and shows what a paused machine
// costs.
func (b *bench) pause(ctx context.Context) error {
	s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	if err := b.exec(ctx, s.ID, "true"); err != nil {
		return err
	}
	var down, up, hand []time.Duration
	for range rounds {
		took, err := timed(func() error {
			_, err := b.client.Pause(ctx, s.ID, client.PauseRequest{})
			return err
		})
		if err != nil {
			return err
		}
		down = append(down, took)
		if took, err = timed(func() error { _, err := b.client.Resume(ctx, s.ID); return err }); err != nil {
			return err
		}
		up = append(up, took)
		m, start, err := b.byHand(ctx)
		if err != nil {
			return err
		}
		if err := m.end(ctx, nil); err != nil {
			return err
		}
		hand = append(hand, start)
	}
	h := median(hand)
	b.print(comparison{"resume, until its guest says that it is right", median(up), h, h + 50*time.Millisecond, "by hand + 50 ms"})
	fmt.Printf("%-46s %7.1f ms\n", "pause, until nothing is left", ms(median(down)))
	return b.client.Remove(ctx, s.ID)
}

// ten has ten sandboxes of which eight are paused, and compares the first answer
// of one of those, asked in turns, with that of a bare restore.
func (b *bench) ten(ctx context.Context) error {
	const all, awake = 10, 2
	first, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	boxes, err := b.client.Fork(ctx, first.ID, client.ForkRequest{Count: all - 1})
	if err != nil {
		return err
	}
	boxes = append(boxes, first)
	var ours, hand []time.Duration
	for _, s := range boxes[awake:] {
		if _, err := b.client.Pause(ctx, s.ID, client.PauseRequest{}); err != nil {
			return err
		}
	}
	for _, s := range boxes[awake:] {
		took, err := timed(func() error { return b.exec(ctx, s.ID, "true") })
		if err != nil {
			return err
		}
		ours = append(ours, took)
		if _, err := b.client.Pause(ctx, s.ID, client.PauseRequest{}); err != nil {
			return err
		}
		m, start, err := b.byHand(ctx)
		if err != nil {
			return err
		}
		exec, err := timed(func() error { return m.exec(ctx, "true") })
		if err := m.end(ctx, err); err != nil {
			return err
		}
		hand = append(hand, start+exec)
	}
	h := median(hand)
	b.print(comparison{"first answer of one of 10, 8 of them paused", median(ours), h, h * 13 / 10, "1.3 x by hand"})
	return b.cost(ctx, boxes, awake)
}

// cost prints what the host spends on sandboxes of which so many run and the
// others are paused, and removes them.
func (b *bench) cost(ctx context.Context, boxes []client.Sandbox, awake int) error {
	const mib = 1 << 20
	var memory, disk float64
	for i, s := range boxes {
		now, err := b.client.Sandbox(ctx, s.ID)
		if err != nil {
			return err
		}
		memory += float64(now.MemoryUsedMB)
		line, err := b.client.Timeline(ctx, s.ID)
		if err != nil {
			return err
		}
		for _, snap := range line.Snapshots {
			if i >= awake {
				disk += float64(snap.OwnBytes) / mib
			}
		}
	}
	fmt.Printf("%-46s %6.1f MiB of memory\n", "an idle sandbox that runs", memory/float64(awake))
	fmt.Printf("%-46s %6.1f MiB of disk\n", "an idle sandbox that is paused", disk/float64(len(boxes)-awake))
	for _, s := range boxes {
		if err := b.client.Remove(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// forks is how many are made at once.
const forks = 10

// fork compares forks of one moment with as many bare restores, both side by
// side: machines that start together share the host's caches, which costs each
// of them half as much again.
func (b *bench) fork(ctx context.Context) error {
	s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
	if err != nil {
		return err
	}
	snap, err := b.client.Snapshot(ctx, s.ID, client.SnapshotRequest{})
	if err != nil {
		return err
	}
	var ours, hand []time.Duration
	for range rounds / 2 {
		var all []client.Sandbox
		took, err := timed(func() (err error) {
			all, err = b.client.Fork(ctx, s.ID, client.ForkRequest{Snapshot: snap.ID, Count: forks})
			return err
		})
		if err != nil {
			return err
		}
		ours = append(ours, took)
		for _, f := range all {
			if err := b.client.Remove(ctx, f.ID); err != nil {
				return err
			}
		}
		if took, err = b.manyByHand(ctx); err != nil {
			return err
		}
		hand = append(hand, took)
	}
	h := median(hand)
	own := forks * 50 * time.Millisecond / time.Duration(runtime.NumCPU()) // create's, for each
	b.print(comparison{fmt.Sprintf("fork x %d, until their guests say so", forks), median(ours), h, h*12/10 + own, "as many bare + 20 % + 50 ms each on all cores"})
	return b.client.Remove(ctx, s.ID)
}

// manyByHand restores side by side.
func (b *bench) manyByHand(ctx context.Context) (time.Duration, error) {
	machines, errs := make([]*bare, forks), make([]error, forks)
	var all sync.WaitGroup
	began := time.Now()
	for i := range forks {
		all.Go(func() { machines[i], _, errs[i] = b.byHandAs(ctx, fmt.Sprintf("byhand%d", i)) })
	}
	all.Wait()
	took := time.Since(began)
	for _, m := range machines {
		if m != nil {
			errs = append(errs, m.end(ctx, nil))
		}
	}
	return took, errors.Join(errs...)
}
