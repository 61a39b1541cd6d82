// Package room guards the pool while machines run on it.
//
// A machine that writes to its disk or memory takes room in the pool, and a
// pool that is really full is the end of machines: the kernel kills a VMM whose
// memory file cannot grow (SIGBUS). So machines are held before it comes to
// that, and go on by themselves once there is room: first those that have
// written the most since the pool ran low, and if that is not enough all.
//
//	free  ── low: what each writes from now on is noted
//	      ── short: who has written the most is held
//	      ── floor: all are held
//
// Who has written how much is asked of the kernel, not of what a file takes: a
// block that was shared is taken anew when it is written to, and no file is
// longer for it. A Guard belongs to one goroutine; Watch is one that acts.
package room

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Every is how often a Guard should look. It costs two system calls, and one for
// each machine while the pool is low.
const Every = 100 * time.Millisecond

const (
	// floor is what must be free for machines to run, in bytes. They write at
	// most some 100 MB between two looks.
	floor = 256 << 20
	// short is when those who write the most are held, low when it is noted who
	// that is.
	short = 2 * floor
	low   = 4 * floor
	// much is what nobody is held for who has written less: a quarter of what
	// brings the pool from low to short.
	much = (low - short) / 4
	// enough is when machines that stood still go on: well above short, so that
	// they do not stop at once again.
	enough = 3 * floor
)

// Why machines are held, for their users.
const (
	whyAll  = "the pool is full: it goes on once there is room"
	whyMost = "the pool is full, and this machine has written the most: it goes on once there is room"
)

// Machine is one that runs, or that is held.
type Machine struct {
	ID   string
	PID  int
	Held bool
}

// Guard says which machines are to be held. The zero one is ready.
type Guard struct {
	// Written says what a process has written since it began, in bytes; nil for
	// what the kernel says.
	Written func(pid int) (int64, error)

	// wrote is what each machine has written; nil while the pool is not low.
	wrote map[string]count
}

// count is what a process had written when the pool ran low, and has written
// since, in bytes.
type count struct{ from, since int64 }

// Next is what is to be done. Hold maps machines to why.
type Next struct {
	Hold    map[string]string
	Release []string
}

// Look says what is to be done with so much free, in bytes.
func (g *Guard) Look(free int64, machines []Machine) (n Next) {
	most := g.count(free, machines)
	n.Hold = map[string]string{}
	for _, m := range machines {
		switch {
		case m.Held && free > enough:
			n.Release = append(n.Release, m.ID)
		case m.Held:
		case free < floor:
			n.Hold[m.ID] = whyAll
		case free < short && g.wrote[m.ID].since > max(most/2, much):
			n.Hold[m.ID] = whyMost
		}
	}
	return n
}

// count brings up to date what each machine has written since the pool ran low,
// and returns the most of it. A machine that is new since then counts from now
// on. One that has left stays the offender that it was until there is room: what
// it took is free a while later, and its neighbours are not to be blamed for it.
func (g *Guard) count(free int64, all []Machine) (most int64) {
	if free >= low {
		g.wrote = nil
		return 0
	}
	if g.wrote == nil {
		g.wrote = map[string]count{}
	}
	for _, m := range all {
		now, err := g.written(m.PID)
		if err != nil {
			continue // it has ended
		}
		from := now
		if c, known := g.wrote[m.ID]; known && now >= c.from { // and has no new VMM
			from = c.from
		}
		g.wrote[m.ID] = count{from, now - from}
	}
	for _, c := range g.wrote {
		most = max(most, c.since)
	}
	return most
}

func (g *Guard) written(pid int) (int64, error) {
	if g.Written != nil {
		return g.Written(pid)
	}
	return written(pid)
}

// written is what a process has written to files, mapped memory included, in
// bytes (proc_pid_io(5)).
func written(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d does not say what it has written", pid)
}
