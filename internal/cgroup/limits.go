package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// period is that over which a CPU quota is counted, in microseconds: the
// kernel's default (cpu.max in cgroup-v2.rst).
const period = 100_000

// heaviest is the most that a weight can be (cgroup-v2.rst). Version 1 takes
// other numbers in places, and would not refuse.
const heaviest = 10_000

// check refuses what would silently be no limit, or another.
func (l Limits) check() error {
	if l.MemoryBytes < 0 || l.PIDs < 0 || !(l.CPUQuota >= 0) || // it may be NaN
		l.CPUWeight < 0 || l.CPUWeight > heaviest || l.IOWeight < 0 || l.IOWeight > heaviest {
		return fmt.Errorf("limits out of range: %+v", l)
	}
	return nil
}

// knob is one limit as the kernel has it: a file of a controller, and how the
// limit is written there and read back.
type knob struct {
	controller, file string
	version          int
	// optional files are missing on kernels that are built or booted so.
	optional bool
	// value returns "" if the limit is not to be set.
	value func(Limits) string
	// read is nil for what only helps another limit.
	read func(*Limits, string) error
}

// knobs are those of cgroup-v2.rst, and of memory.rst, sched-bwc.rst,
// sched-design-CFS.rst, pids.rst and bfq-iosched.rst for version 1.
func knobs() []knob {
	memory := func(l Limits) string { return positive(l.MemoryBytes) }
	pids := func(l Limits) string { return positive(int64(l.PIDs)) }
	readMemory := func(l *Limits, s string) error { return number(s, &l.MemoryBytes) }
	readPIDs := func(l *Limits, s string) error { return number(s, &l.PIDs) }
	always := func(s string) func(Limits) string { return func(Limits) string { return s } }
	return []knob{
		{"memory", "memory.max", 2, false, memory, readMemory},
		{"memory", "memory.swap.max", 2, true, always("0"), nil},
		{"memory", "memory.oom.group", 2, true, always("1"), nil},
		{"memory", "memory.limit_in_bytes", 1, false, memory, readMemory},
		// Memory and swap together: no swap on top.
		{"memory", "memory.memsw.limit_in_bytes", 1, true, memory, nil},
		{"pids", "pids.max", 2, false, pids, readPIDs},
		{"pids", "pids.max", 1, false, pids, readPIDs},
		{"cpu", "cpu.weight", 2, false, func(l Limits) string { return positive(int64(l.CPUWeight)) },
			func(l *Limits, s string) error { return number(s, &l.CPUWeight) }},
		{"cpu", "cpu.max", 2, false, quota2, readQuota2},
		{"cpu", "cpu.shares", 1, false, shares, readShares},
		{"cpu", "cpu.cfs_quota_us", 1, true, quota1, readQuota1},
		{"io", "io.weight", 2, true, func(l Limits) string { return positive(int64(l.IOWeight)) },
			func(l *Limits, s string) error { return number(strings.TrimPrefix(s, "default "), &l.IOWeight) }},
		{"io", "blkio.bfq.weight", 1, true, func(l Limits) string { return positive(int64(min(l.IOWeight, 1000))) },
			func(l *Limits, s string) error { return number(s, &l.IOWeight) }},
	}
}

func positive(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// number reads a limit. "max", and the page-aligned top of the numbers by
// which version 1 says it, are no limit.
func number[T int | int64](s string, to *T) error {
	if s == "max" {
		*to = 0
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if n >= math.MaxInt64>>12<<12 {
		n = 0
	}
	*to = T(n)
	return err
}

// In version 1 an ordinary group has 1024 shares, in version 2 a weight of 100.
func shares(l Limits) string { return positive(int64(l.CPUWeight) * 1024 / 100) }

func readShares(l *Limits, s string) error {
	n, err := strconv.Atoi(s)
	l.CPUWeight = (n*100 + 1023) / 1024
	return err
}

func quota1(l Limits) string { return positive(int64(l.CPUQuota * period)) }

func readQuota1(l *Limits, s string) error {
	n, err := strconv.Atoi(s)
	l.CPUQuota = float64(max(n, 0)) / period // -1 is none
	return err
}

func quota2(l Limits) string {
	if l.CPUQuota <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %d", int64(l.CPUQuota*period), period)
}

func readQuota2(l *Limits, s string) error {
	most, over, ok := strings.Cut(s, " ")
	if most == "max" {
		l.CPUQuota = 0
		return nil
	}
	n, err := strconv.Atoi(most)
	d, err2 := strconv.Atoi(over)
	if !ok || d <= 0 {
		return fmt.Errorf("cpu.max: %q", s)
	}
	l.CPUQuota = float64(n) / float64(d)
	return errors.Join(err, err2)
}

// dir returns where a knob of the group is, false if the host does not have
// its controller in that version.
func (g *Group) dir(controller string, version int) (string, bool) {
	if version == 2 {
		return g.in(g.host.version2), slices.Contains(g.host.unified, controller)
	}
	hierarchy, ok := g.host.version1[oldName(controller)]
	return g.in(hierarchy), ok
}

func (g *Group) setLimits(l Limits) error {
	for _, k := range knobs() {
		dir, ok := g.dir(k.controller, k.version)
		value := k.value(l)
		if !ok || value == "" {
			continue
		}
		err := write(filepath.Join(dir, k.file), value)
		if err != nil && !(k.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// Limits reads back what the kernel has. What the host cannot limit is 0.
func (g *Group) Limits() (l Limits, err error) {
	for _, k := range knobs() {
		dir, ok := g.dir(k.controller, k.version)
		if !ok || k.read == nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, k.file))
		if k.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Limits{}, err
		}
		if err := k.read(&l, strings.TrimSpace(string(b))); err != nil {
			return Limits{}, fmt.Errorf("read %s: %w", k.file, err)
		}
	}
	return l, nil
}
