package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"bulkhead/client/program"
)

const (
	// streams are programs that write side by side.
	streams = 50
	// Each writes so many lines of about 1 KiB, ten a second.
	streamLines = 100
	linePadding = 1000
)

// writer is a program of one process: in a translator, a hundred sleeps of a
// shell would be all that is measured. Its arguments are who it is, how many
// lines it writes, and how much to each.
const writer = `$| = 1; my ($who, $lines, $padding) = @ARGV;
for my $i (1 .. $lines) { print "$who $i ", "x" x $padding, "\n"; select undef, undef, undef, 0.1 }`

// written is what a writer writes.
func written(who int) []byte {
	var b bytes.Buffer
	for i := range streamLines {
		fmt.Fprintf(&b, "%d %d %s\n", who, i+1, strings.Repeat("x", linePadding))
	}
	return b.Bytes()
}

// heard is what came of a writer, and when. Writes come one after the other.
type heard struct {
	bytes.Buffer
	at []time.Time
}

// Write implements io.Writer.
func (h *heard) Write(b []byte) (int, error) {
	h.at = append(h.at, time.Now())
	return h.Buffer.Write(b)
}

// silence is the longest time between two pieces since a moment.
func (h *heard) silence(since time.Time) (longest time.Duration) {
	for i, at := range h.at[1:] {
		if before := h.at[i]; !before.Before(since) {
			longest = max(longest, at.Sub(before))
		}
	}
	return longest
}

// listened is about all streams of a round: when all had ended, when the last had
// begun, and the longest silence of one from then on. Before, programs that start
// keep the machines' processors from those that write.
type listened struct {
	all, first, silence time.Duration
}

// listen runs all writers at once, and checks what each has written. run runs a
// program in the machine of that number of the crew.
func listenTo(run func(machine int, e program.Exec) (code int, err error)) (l listened, err error) {
	began := time.Now()
	out, errs := make([]*heard, streams), make([]error, streams)
	var all sync.WaitGroup
	for i := range streams {
		out[i] = &heard{}
		all.Go(func() {
			code, err := run(i%crew, program.Exec{Cmd: "perl", Stdout: out[i],
				Args: []string{"-e", writer, fmt.Sprint(i), fmt.Sprint(streamLines), fmt.Sprint(linePadding)}})
			if err == nil && (code != 0 || !bytes.Equal(out[i].Bytes(), written(i))) {
				err = fmt.Errorf("it ended with %d and %d bytes, not those that it wrote", code, out[i].Len())
			}
			if err != nil {
				errs[i] = fmt.Errorf("stream %d: %w", i, err)
			}
		})
	}
	all.Wait()
	l.all = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return l, err
	}
	for _, h := range out {
		l.first = max(l.first, h.at[0].Sub(began))
	}
	for _, h := range out {
		l.silence = max(l.silence, h.silence(began.Add(l.first)))
	}
	return l, nil
}

// streams compares programs that write at the same time with the same in bare
// machines, for which the crew makes room.
func (b *bench) streams(ctx context.Context, g gated) error {
	watch := b.watch(ctx)
	ours, err := listenTo(func(machine int, e program.Exec) (int, error) {
		e.Sandbox = g.ids[machine]
		return g.client.Exec(ctx, e)
	})
	used, werr := watch()
	if err := errors.Join(err, werr); err != nil {
		return err
	}
	for _, id := range g.ids {
		if err := b.client.Remove(ctx, id); err != nil {
			return err
		}
	}
	hand, err := b.streamsByHand(ctx)
	if err != nil {
		return err
	}
	b.print(comparison{fmt.Sprintf("%d exec streams of 10 s, until all have ended", streams), ours.all, hand.all, hand.all * 13 / 10, "1.3 x by hand"})
	b.print(comparison{"longest silence of one, once all write", ours.silence, hand.silence, 2*hand.silence + 100*time.Millisecond, "2 x by hand + a line's 100 ms"})
	fmt.Printf("  first line of the last one after %.1f ms (by hand %.1f); load average %s\n", ms(ours.first), ms(hand.first), used.busy)
	b.printMemory("daemon's memory meanwhile", g.alone, used.most)
	return nil
}

func (b *bench) streamsByHand(ctx context.Context) (l listened, err error) {
	var machines []*bare
	defer func() {
		for _, m := range machines {
			err = m.end(ctx, err)
		}
	}()
	for i := range crew {
		m, _, err := b.byHandAs(ctx, fmt.Sprintf("byhand%d", i))
		if err != nil {
			return l, err
		}
		machines = append(machines, m)
	}
	return listenTo(func(machine int, e program.Exec) (int, error) {
		return machines[machine].run(ctx, e)
	})
}
