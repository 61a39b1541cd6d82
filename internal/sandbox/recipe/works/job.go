package works

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/name"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/recipe/layer"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/template"
	"bulkhead/proto/machine"
)

// job is one build under way. One goroutine has it.
type job struct {
	*Works
	build  record.Build
	recipe recipe.Recipe
	out    *record.Log

	base template.Base
	size live.Size
	// facts are of the VMM, as snapshots tell.
	facts map[string]string
	// from is the snapshot that the machine is equal to, but for what does not
	// change it; "" if none was kept. holds is what holds after it.
	from  pool.SnapshotID
	holds recipe.Defaults

	// id and machine are of the machine, once it is made.
	id      pool.MachineID
	machine *live.Machine
	// standard is who acts in it if nobody is named; "" until that is asked for.
	standard string
}

// do builds the template. On error nothing of it is left but layers.
func (j *job) do(ctx context.Context) (err error) {
	release, err := j.prepare(ctx)
	if err != nil {
		return at(stepBase, err)
	}
	defer release()
	defer func() { err = errors.Join(err, j.end(context.WithoutCancel(ctx))) }()
	if err := at(stepBase, j.resize(ctx)); err != nil {
		return err
	}
	stretches, tail := j.recipe.Stretches()
	kept, err := j.skip(stretches)
	if err != nil {
		return err
	}
	if err := j.up(ctx); err != nil {
		return at(stepBase, err)
	}
	for _, s := range stretches[kept:] {
		if err := j.carryOut(ctx, s); err != nil {
			return err
		}
	}
	if err := j.steps(ctx, tail); err != nil {
		return err
	}
	return at(stepFinal, j.finish(ctx))
}

// prepare finds what the build starts from, and room for its machine, which
// release gives back.
func (j *job) prepare(ctx context.Context) (release func(), err error) {
	if err := j.begin(ctx); err != nil {
		return nil, err
	}
	back := func() {
		if j.recipe.Template != "" {
			return
		}
		if err := j.Templates.Release(context.WithoutCancel(ctx), j.base); err != nil {
			j.Log.WarnContext(ctx, "base of a build stays until the daemon's next start", "err", err)
		}
	}
	defer func() {
		if err != nil {
			back()
		}
	}()
	v, err := j.Machines.Driver.Version(ctx)
	if err != nil {
		return nil, err
	}
	j.facts, j.size, j.from, j.holds = live.Facts(v), j.base.Size, j.base.Snapshot, j.base.Defaults
	if j.build.CPUs != 0 {
		j.size.CPUs = j.build.CPUs
	}
	if j.build.MemoryMiB != 0 {
		j.size.MemoryMiB = j.build.MemoryMiB
	}
	room, err := j.take(j.size)
	return func() { room(); back() }, err
}

// begin finds what the build starts from.
func (j *job) begin(ctx context.Context) (err error) {
	if j.recipe.Template != "" {
		t, err := j.Templates.Get(ctx, j.recipe.Template)
		j.base = template.Base{Template: t, Key: string(t.Snapshot)}
		return err
	}
	size := live.Size{CPUs: j.build.CPUs, MemoryMiB: j.build.MemoryMiB}
	j.base, err = j.Bases.FromImage(ctx, j.recipe.Image, size, func(line string) { j.out.Say(record.Info, stepBase, line) })
	return err
}

// known is what the snapshot that the machine is equal to is called in keys: that
// of an image is another one each time.
func (j *job) known() string {
	if j.from == j.base.Snapshot {
		return j.base.Key
	}
	return string(j.from)
}

// take counts the machine of a build, unless there is no room for it.
func (w *Works) take(size live.Size) (release func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := live.Size{CPUs: w.taken.CPUs + size.CPUs, MemoryMiB: w.taken.MemoryMiB + size.MemoryMiB}
	if err := w.Room(all); err != nil {
		return nil, err
	}
	w.taken = all
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.taken.CPUs -= size.CPUs
		w.taken.MemoryMiB -= size.MemoryMiB
	}, nil
}

// resize comes to a snapshot of the size that was asked for: what was saved can
// only go on as it was, so a machine of another size boots from its disk.
func (j *job) resize(ctx context.Context) error {
	if j.size == j.base.Size {
		return nil
	}
	key := recipe.SizeKey(j.build.Team, j.known(), j.size.CPUs, j.size.MemoryMiB)
	l, found, err := j.Shelf.Find(key, j.facts)
	if found || err != nil {
		j.from = l.Snapshot
		return err
	}
	j.out.Say(record.Info, stepBase, fmt.Sprintf("booting a machine of %d CPUs and %d MiB", j.size.CPUs, j.size.MemoryMiB))
	if err := j.claim(ctx); err != nil {
		return err
	}
	err = j.Machines.Pool.Read(ctx, j.from, func(dir string) error {
		f := pool.FilesIn(dir)
		_, err := j.Machines.Pool.ImportMachine(ctx, j.id, pool.Source{
			Disk: f.Disk, Kernel: f.Kernel, Initrd: f.Initrd, MemoryBytes: int64(j.size.MemoryMiB) << 20,
		})
		return err
	})
	if err != nil {
		return err
	}
	if j.machine, err = j.Machines.Boot(ctx, j.id, j.size, identity()); err != nil {
		return err
	}
	if err := template.AwaitUp(ctx, j.machine.Guest); err != nil {
		return err
	}
	j.from = ""
	return j.keep(ctx, key)
}

// skip goes over the stretches of which all is kept, and returns how many these
// are.
func (j *job) skip(stretches []recipe.Stretch) (kept int, err error) {
	for _, s := range stretches {
		if j.recipe.Force || s.Forced() || j.from == "" {
			break
		}
		l, found, err := j.Shelf.Find(j.key(s), j.facts)
		if err != nil {
			return kept, err
		}
		if !found {
			break
		}
		j.from, j.holds = l.Snapshot, l.Defaults
		for i, step := range s.Steps {
			j.announce("CACHED ", s.First+i, step)
		}
		kept++
	}
	return kept, nil
}

func (j *job) key(s recipe.Stretch) string {
	return recipe.Key(j.build.Team, j.known(), j.holds, s)
}

func (j *job) announce(how string, number int, s recipe.Step) {
	j.out.Say(record.Info, strconv.Itoa(number), fmt.Sprintf("%s[%d/%d] %s", how, number, len(j.recipe.Steps), s.Title()))
}

// up makes the machine of what was kept, unless it runs already.
func (j *job) up(ctx context.Context) (err error) {
	if j.machine != nil {
		return nil
	}
	if err := j.claim(ctx); err != nil {
		return err
	}
	if _, err := j.Machines.Pool.NewMachine(ctx, j.id, j.from); err != nil {
		return err
	}
	j.machine, err = j.Machines.Restore(ctx, j.id, j.size, identity())
	return err
}

// claim makes up an id for the machine and records that there may be one.
func (j *job) claim(ctx context.Context) error {
	j.id = template.NewMachineID()
	return j.Machines.Claim(ctx, j.id)
}

// end ends the machine and removes all that it has.
func (j *job) end(ctx context.Context) (err error) {
	if j.id == "" {
		return nil
	}
	if j.machine != nil {
		err = j.machine.Kill(ctx)
	}
	err = errors.Join(err, j.Machines.Discard(ctx, j.id))
	j.id, j.machine, j.standard = "", nil, ""
	return err
}

// identity is that of a machine that exists for a build.
func identity() *machine.Identity {
	return &machine.Identity{Hostname: "build", MachineId: name.MachineID()}
}

// carryOut carries out a stretch and keeps what came of it.
func (j *job) carryOut(ctx context.Context, s recipe.Stretch) error {
	key := ""
	if j.from != "" {
		key = j.key(s)
	}
	j.from = ""
	if err := j.steps(ctx, s); err != nil {
		return err
	}
	if key == "" {
		return nil
	}
	return at(strconv.Itoa(s.Last()), j.keep(ctx, key))
}

// steps carries out some steps.
func (j *job) steps(ctx context.Context, s recipe.Stretch) error {
	for i, step := range s.Steps {
		number := strconv.Itoa(s.First + i)
		j.announce("", s.First+i, step)
		if err := j.step(ctx, number, step); err != nil {
			return at(number, j.whyEnded(ctx, err))
		}
	}
	return nil
}

// whyEnded says of an error that the machine's end, or that of the build's time,
// was the cause, if it was.
func (j *job) whyEnded(ctx context.Context, err error) error {
	switch {
	case j.life.Err() == nil && ctx.Err() != nil:
		return told{context.Cause(ctx)}
	case j.machine.Ended():
		return told{fmt.Errorf("the machine ended: %s", j.machine.VM.Exit().Reason)}
	}
	return err
}

// keep keeps the machine as it is as a layer. A pool that is short has no room
// for layers: what comes after is not kept either.
func (j *job) keep(ctx context.Context, key string) error {
	u, err := j.Machines.Pool.Usage()
	if err != nil {
		return err
	}
	if u.Free-u.Reserved < u.Total/10 {
		j.Log.InfoContext(ctx, "the pool is short: layers of builds are not kept", "free", u.Free)
		return j.Shelf.Clear(ctx)
	}
	meta, err := layer.Meta(key, j.holds, j.size)
	if err != nil {
		return err
	}
	snap, _, err := j.Machines.Take(ctx, j.machine, j.id, meta)
	if fault.Is(err, fault.Exhausted) {
		j.Log.InfoContext(ctx, "layer of a build is not kept", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	j.from = snap.ID
	if err := j.Shelf.Put(ctx, snap); err != nil {
		j.Log.WarnContext(ctx, "older layers stay", "err", err)
	}
	return nil
}

// finish has the start command run, and makes the template of the machine.
func (j *job) finish(ctx context.Context) error {
	if err := j.launch(ctx); err != nil {
		return j.whyEnded(ctx, err)
	}
	names := j.names()
	j.out.Say(record.Info, stepFinal, "taking the snapshot")
	snap, _, err := j.Machines.Take(ctx, j.machine, j.id, pool.Meta{
		Name: names[0], Cause: template.Cause, CPUs: j.size.CPUs, MemoryMiB: j.size.MemoryMiB,
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		err := j.Templates.Publish(ctx, template.Template{
			Name: name, Snapshot: snap.ID, Created: snap.Created, Size: j.size, DiskMiB: j.base.DiskMiB,
			Kernel: j.base.Kernel, Accel: j.facts["accel"], Team: j.build.Team, Build: j.build.ID, Defaults: j.holds,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// names are those of the template, one for each tag.
func (j *job) names() []string {
	all := []string{}
	for _, tag := range j.build.Tags {
		name := j.build.Team + "/" + j.build.Template
		if tag != DefaultTag {
			name += ":" + tag
		}
		all = append(all, name)
	}
	return all
}

// DefaultTag is the one that is not part of a template's name.
const DefaultTag = "default"
