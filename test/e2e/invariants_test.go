package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/jail"
)

// check compares what a daemon has after it was killed with what must be there,
// and what is on the host with what the daemon has. What was half made is
// mended or removed, so that the siege goes on.
func (s *siege) check(t *testing.T) {
	t.Helper()
	list, err := s.c.Sandboxes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	noOrphans(t, s.h.Dir, list)
	if left := folder(t, filepath.Join(s.h.Dir, "pool", "staging")); len(left) != 0 {
		t.Errorf("half-made things are left: %v", left)
	}
	there := map[string]bool{}
	for _, found := range list {
		there[found.Name] = true
		b := s.boxes[found.Name]
		if b == nil { // nobody was told that it is there, or that it is gone
			if err := s.c.Remove(t.Context(), found.Name); err != nil {
				t.Errorf("remove %s: %v", found.Name, err)
			}
			continue
		}
		s.checkOne(t, b, found)
	}
	for name := range s.boxes {
		if !there[name] {
			t.Errorf("sandbox %s is lost", name)
		}
	}
}

// checkOne checks a sandbox that must be there, and brings it back if it has
// crashed.
func (s *siege) checkOne(t *testing.T, b *besieged, found client.Sandbox) {
	t.Helper()
	line, err := s.c.Timeline(t.Context(), b.name)
	if err != nil {
		t.Errorf("timeline of %s: %v", b.name, err)
		return
	}
	listed := map[string]bool{}
	for _, snap := range line.Snapshots {
		listed[snap.ID] = true
		if snap.Cause == "fork" {
			t.Errorf("a snapshot that was for a fork stays in %s", b.name)
		}
	}
	for id := range b.snapshots {
		if !listed[id] && !b.doubtful[id] {
			t.Errorf("snapshot %s of %s is lost", id, b.name)
		}
	}
	// From here on what is listed is what must stay; those of pauses and
	// rollbacks are thinned by themselves.
	clear(b.doubtful)
	clear(b.snapshots)
	for _, snap := range line.Snapshots {
		if snap.Cause == "manual" {
			b.snapshots[snap.ID] = true
		}
	}
	if found.State != client.StateRunning && line.Head != "" && !listed[line.Head] {
		t.Errorf("%s is %s and is to go on from %s, which is not there", b.name, found.State, line.Head)
	}
	if b.paused && found.State != client.StatePaused {
		t.Errorf("%s was paused and is %s", b.name, found.State)
	}
	if b.head != "" && line.Head != b.head {
		t.Errorf("%s goes on from %s, want %s", b.name, line.Head, b.head)
	}
	b.paused, b.head = found.State == client.StatePaused, ""
	switch found.State {
	case client.StateRunning, client.StatePaused:
	case client.StateCrashed:
		if found.Reason == "" || found.Hint == "" {
			t.Errorf("%s has crashed without reason or way back: %+v", b.name, found)
		}
		s.revive(t, b)
	default:
		t.Errorf("%s is %s", b.name, found.State)
	}
}

// revive brings a sandbox back that has crashed.
func (s *siege) revive(t *testing.T, b *besieged) {
	t.Helper()
	all := b.known()
	if len(all) == 0 { // a new one, which has nothing to go back to
		if err := s.c.Remove(t.Context(), b.name); err != nil {
			t.Error(err)
		}
		delete(s.boxes, b.name)
		return
	}
	s.goBack(t, b, all[s.moves.IntN(len(all))])
}

func (s *siege) goBack(t *testing.T, b *besieged, to string) {
	t.Helper()
	if _, err := s.c.Rollback(t.Context(), b.name, client.RollbackRequest{Snapshot: to, Discard: true}); err != nil {
		t.Errorf("rollback of %s to %s: %v", b.name, to, err)
	}
	b.paused = false
}

// restoreAll goes back to every snapshot that is listed, and looks whether it
// has what it must have.
func (s *siege) restoreAll(t *testing.T) {
	t.Helper()
	for _, name := range s.names() {
		line, err := s.c.Timeline(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range line.Snapshots {
			s.goBack(t, s.boxes[name], snap.ID)
			if name != "first" && name != "second" {
				continue
			}
			if got := s.h.With(t).Box(name).Sh("cat /srv/precious"); got != "precious" {
				t.Errorf("%s at %s (%s) has %q", name, snap.ID, snap.Cause, got)
			}
		}
	}
}

// noOrphans checks that everything that a daemon's state directory has on the
// host belongs to a sandbox that is listed.
func noOrphans(t *testing.T, dir string, list []client.Sandbox) {
	t.Helper()
	known, live := map[string]bool{}, map[string]bool{}
	for _, b := range list {
		known[b.ID] = true
		if b.VMM != nil {
			live[b.ID] = true
		}
	}
	in := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	for where, of := range map[string]map[string]bool{
		in("pool", "machines"): known, in("run"): known, in("egress"): known,
	} {
		for _, name := range folder(t, where) {
			if !of[name] {
				t.Errorf("%s has %s, which is nobody's", where, name)
			}
		}
	}
	for id := range known {
		_, err := os.Lstat(in("run", id, "netns"))
		if there := !errors.Is(err, fs.ErrNotExist); there != live[id] {
			t.Errorf("%s: runs: %t, has a network: %t", id, live[id], there)
		}
	}
	cages := cagesOf(t, dir)
	if len(cages) != len(live) {
		t.Errorf("%d machines have %d cages: %v", len(live), len(cages), cages)
	}
	mounts := text(t, "/proc/self/mounts")
	if got := strings.Count(mounts, in("run")+"/"); got != len(live) {
		t.Errorf("%d machines have %d mounts", len(live), got)
	}
	if pools, devices := strings.Count(mounts, " "+in("pool")+" "), loopsOn(t, in("pool.img")); pools > 1 || devices != pools {
		t.Errorf("the pool has %d mounts and %d loop devices", pools, devices)
	}
	for _, user := range groups(t) {
		lease := text(t, filepath.Join(jail.DefaultLeases, user))
		if lease == "" && slices.Contains(groups(t), user) { // the lease goes last
			t.Errorf("control group of user %s is nobody's", user)
		}
	}
}

// loopsOn counts the loop devices on a file.
func loopsOn(t *testing.T, file string) (n int) {
	t.Helper()
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if strings.TrimSpace(text(t, d)) == file {
			n++
		}
	}
	return n
}

// folder lists the names in a folder; one that is not there has none.
func folder(t *testing.T, path string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// text reads a file; one that has gone has none.
func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// cagesOf lists the users of cages that were made for a state directory: there
// is one for each VMM, and none for what has ended.
func cagesOf(t *testing.T, dir string) (users []string) {
	t.Helper()
	for _, name := range folder(t, jail.DefaultLeases) {
		// Those of other daemons may go meanwhile.
		if strings.Contains(text(t, filepath.Join(jail.DefaultLeases, name)), `"`+dir+"/") {
			users = append(users, name)
		}
	}
	return users
}

// groups lists the users that have a control group.
func groups(t *testing.T) (users []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/*/bulkhead/u*", "/sys/fs/cgroup/bulkhead/u*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if user := filepath.Base(path)[1:]; !slices.Contains(users, user) {
				users = append(users, user)
			}
		}
	}
	return users
}
