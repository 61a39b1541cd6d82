package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/test/harness"
)

const (
	kills = 200
	// killSeed is where the moments come from: with another one other moments
	// are hit, but the same operations are never interleaved twice the same way.
	killSeed = 3
	// restoreEvery is after how many kills all snapshots are gone back to.
	restoreEvery = 40
	// mostSnapshots and mostForks bound what a sandbox has and how many there
	// are, so that the test takes as long at its end as at its beginning.
	mostSnapshots, mostForks = 5, 3
)

// siege kills a daemon again and again, and knows what must have survived.
type siege struct {
	h     *harness.Host
	c     *client.Client
	moves *rand.Rand
	// took is how long each operation takes.
	took map[string]time.Duration
	// boxes are the sandboxes that exist, by name.
	boxes map[string]*besieged
	made  int
}

// besieged is a sandbox of which it is known what must be there.
type besieged struct {
	name string
	// snapshots are those whose taking was confirmed, doubtful those whose
	// removal was begun.
	snapshots, doubtful map[string]bool
	// paused is set if it must be paused; head is the snapshot that it must go on
	// from, "" if that is not known.
	paused bool
	head   string
}

// op is something that may be under way when the daemon is killed.
type op struct {
	what string
	do   func(context.Context) error
	// done is called if it succeeded, failed if not: it may have happened.
	done, failed func()
}

// The daemon is killed at random moments of everything that it does. After each
// restart nothing is left of what was half made, nothing is lost that was
// confirmed, and every snapshot that is listed can be gone back to.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	t.Logf("seed %d", killSeed)
	h := harness.New(t).Base()
	s := &siege{
		h: h, c: client.New(h.Socket()), moves: rand.New(rand.NewPCG(killSeed, 0)),
		took: map[string]time.Duration{}, boxes: map[string]*besieged{},
	}
	for _, name := range []string{"first", "second"} {
		b := h.Create(name)
		b.Sh("echo precious > /srv/precious; sync")
		s.enter(name, b.Snapshot("good").ID)
	}
	s.rehearse(t)
	began := time.Now()
	for n := range kills {
		ops := s.choose()
		s.strike(t, ops)
		s.check(t)
		if t.Failed() {
			t.Fatalf("after kill %d, during %s", n, names(ops))
		}
		if n%restoreEvery == restoreEvery-1 {
			s.restoreAll(t)
			t.Logf("%d kills after %s", n+1, time.Since(began).Round(time.Second))
		}
	}
	for _, name := range s.names() {
		h.Must("rm", "-f", name)
	}
	t.Logf("operations took %v", s.took)
}

func names(ops []op) string {
	var all []string
	for _, o := range ops {
		all = append(all, o.what)
	}
	return strings.Join(all, " and ")
}

func (s *siege) enter(name string, snapshots ...string) {
	b := &besieged{name: name, snapshots: map[string]bool{}, doubtful: map[string]bool{}}
	for _, id := range snapshots {
		b.snapshots[id] = true
	}
	s.boxes[name] = b
}

// names lists the sandboxes in an order that depends on nothing else.
func (s *siege) names() (all []string) {
	for name := range s.boxes {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// rehearse finds out how long everything takes.
func (s *siege) rehearse(t *testing.T) {
	t.Helper()
	first := s.boxes["first"]
	of := func(f func(*besieged) op) func() op { return func() op { return f(first) } }
	for _, next := range []func() op{
		s.create, of(s.fork), of(s.snapshot), of(s.rollback), of(s.pause), of(s.resume), of(s.forget), s.remove,
	} {
		o, began := next(), time.Now()
		if err := o.do(t.Context()); err != nil {
			t.Fatalf("%s: %v", o.what, err)
		}
		s.took[kind(o)] = time.Since(began)
		o.done()
	}
	first.head = "" // a pause came after it
}

func kind(o op) string {
	what, _, _ := strings.Cut(o.what, " ")
	return what
}

// choose chooses an operation for each of two sandboxes.
func (s *siege) choose() []op {
	all := s.names()
	s.moves.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	one, other := s.boxes[all[0]], s.boxes[all[1]]
	extra := []op{s.create(), s.fork(one)}
	if len(s.boxes) >= 2+mostForks {
		extra = []op{s.remove()}
	}
	return []op{s.onto(one, extra), s.onto(other, nil)}
}

// onto chooses what to do with a sandbox, or one of the other operations.
func (s *siege) onto(b *besieged, others []op) op {
	if b.paused {
		return s.resume(b)
	}
	can := append([]op{s.rollback(b), s.pause(b), s.snapshot(b)}, others...)
	if len(b.snapshots) >= mostSnapshots {
		can[2] = s.forget(b)
	}
	return can[s.moves.IntN(len(can))]
}

func nothing() {}

func (s *siege) create() op {
	s.made++
	name := fmt.Sprintf("made-%d", s.made)
	return op{"create " + name, func(ctx context.Context) error {
		_, err := s.c.Create(ctx, client.CreateRequest{TemplateID: "base", Name: name})
		return err
	}, func() { s.enter(name) }, nothing}
}

func (s *siege) fork(b *besieged) op {
	s.made++
	name := fmt.Sprintf("fork-%d", s.made)
	return op{"fork " + b.name, func(ctx context.Context) error {
		_, err := s.c.Fork(ctx, b.name, client.ForkRequest{Count: 2, Name: name})
		return err
	}, func() { s.enter(name + "-1"); s.enter(name + "-2") }, nothing}
}

func (s *siege) snapshot(b *besieged) op {
	var id string
	return op{"snapshot " + b.name, func(ctx context.Context) error {
		snap, err := s.c.Snapshot(ctx, b.name, client.SnapshotRequest{})
		id = snap.ID
		return err
	}, func() { b.snapshots[id], b.head = true, id }, nothing}
}

func (s *siege) rollback(b *besieged) op {
	all := b.known()
	if len(all) == 0 {
		return s.snapshot(b)
	}
	req := client.RollbackRequest{Snapshot: all[s.moves.IntN(len(all))], Discard: s.moves.IntN(2) == 0}
	return op{"rollback " + b.name, func(ctx context.Context) error {
		_, err := s.c.Rollback(ctx, b.name, req)
		return err
	}, func() { b.head = req.Snapshot }, nothing}
}

func (s *siege) pause(b *besieged) op {
	return op{"pause " + b.name, func(ctx context.Context) error {
		_, err := s.c.Pause(ctx, b.name, client.PauseRequest{})
		return err
	}, func() { b.paused = true }, nothing}
}

// resume wakes a sandbox by asking something of it.
func (s *siege) resume(b *besieged) op {
	return op{"resume " + b.name, func(ctx context.Context) error {
		_, err := s.c.Exec(ctx, client.Exec{Sandbox: b.name, Cmd: "true"})
		return err
	}, func() { b.paused = false }, func() { b.paused = false }}
}

// forget removes a snapshot.
func (s *siege) forget(b *besieged) op {
	all := b.known()
	id := all[s.moves.IntN(len(all))]
	return op{"forget " + b.name, func(ctx context.Context) error {
		b.doubtful[id] = true
		return s.c.RemoveSnapshot(ctx, b.name, id)
	}, func() { delete(b.snapshots, id) }, nothing}
}

// remove removes a sandbox that is none of the first two.
func (s *siege) remove() op {
	var can []string
	for _, name := range s.names() {
		if name != "first" && name != "second" {
			can = append(can, name)
		}
	}
	name := can[s.moves.IntN(len(can))]
	gone := func() { delete(s.boxes, name) }
	return op{"remove " + name, func(ctx context.Context) error { return s.c.Remove(ctx, name) }, gone, gone}
}

// known lists the snapshots that must be there.
func (b *besieged) known() (all []string) {
	for id := range b.snapshots {
		if !b.doubtful[id] {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// strike kills the daemon while the operations are under way, at a moment of one
// of them, sometimes once more while it starts, and starts it.
func (s *siege) strike(t *testing.T, ops []op) {
	t.Helper()
	aim := s.took[kind(ops[s.moves.IntN(len(ops))])]
	var all sync.WaitGroup
	errs, took := make([]error, len(ops)), make([]time.Duration, len(ops))
	for i, o := range ops {
		all.Go(func() {
			began := time.Now()
			errs[i] = o.do(t.Context())
			took[i] = time.Since(began)
		})
	}
	<-time.After(time.Duration(s.moves.Int64N(int64(aim))))
	s.h.Kill()
	all.Wait()
	for i, o := range ops {
		if errs[i] == nil {
			o.done()
			s.took[kind(o)] = (s.took[kind(o)] + took[i]) / 2
		} else {
			o.failed()
		}
	}
	if s.moves.IntN(8) == 0 {
		if err := s.h.Launch(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(s.moves.Int64N(int64(s.took["start"] + 1))))
		s.h.Kill()
	}
	began := time.Now()
	if err := s.h.Serve(); err != nil {
		t.Fatalf("daemon after kill during %s: %v", names(ops), err)
	}
	s.took["start"] = time.Since(began)
}
