package doctor

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ownTools are the programs that no other part of Bulkhead lists.
var ownTools = []Tool{
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"mkfs.xfs", "xfsprogs"},
	{"xfs_growfs", "xfsprogs"},
}

func programs(h Host, more []Tool) Check {
	var missing, packages []string
	tools := slices.Concat(ownTools, more)
	for _, t := range tools {
		if !h.Installed(t.Name) {
			missing = append(missing, t.Name)
			packages = append(packages, t.Package)
		}
	}
	if missing == nil {
		return ok("programs", fmt.Sprintf("all %d are installed", len(tools)))
	}
	slices.Sort(packages)
	return Check{"programs", Fail, "not installed: " + strings.Join(missing, ", "),
		"apt-get install --no-install-recommends " + strings.Join(slices.Compact(packages), " ")}
}

// packageLists are what building a template finds the guest's kernel by.
func packageLists(h Host) Check {
	lists, err := fs.Glob(h.Files, "var/lib/apt/lists/*_Packages*")
	if err != nil || len(lists) == 0 {
		return Check{"package lists", Warn, "none: templates cannot be built", "apt-get update"}
	}
	return ok("package lists", fmt.Sprintf("%d", len(lists)))
}

// pool says where machines will be kept.
func pool(h Host, stateDir string) Check {
	dir := h.above(stateDir)
	if err := h.Reflink(dir); err == nil {
		return ok("pool", dir+" has reflinks")
	}
	if !hasXFS(h) {
		return Check{"pool", Fail, dir + " has no reflinks, and the kernel no XFS for a loop-mounted file", "modprobe xfs"}
	}
	return ok("pool", dir+" has no reflinks: an XFS file will be loop-mounted")
}

// hasXFS also believes in a module that is not loaded yet: mounting loads it.
func hasXFS(h Host) bool {
	for line := range strings.Lines(h.read("/proc/filesystems")) {
		if strings.TrimSpace(line) == "xfs" {
			return true
		}
	}
	modules := filepath.Join("/lib/modules", h.read("/proc/sys/kernel/osrelease"))
	return strings.Contains(h.read(filepath.Join(modules, "modules.dep")), "/xfs.ko")
}

const (
	gib = 1 << 30
	// A first template takes 3 GiB: 1 GiB of image and what it is made from,
	// the rest for the machine, its memory and the cached copy (measured with
	// 512 MiB of memory).
	leastDisk, enoughDisk = 3 * gib, 10 * gib
	// A sandbox has 512 MiB by default.
	leastMemory, enoughMemory = gib / 2, 2 * gib
)

func disk(h Host, o Options) Check {
	worst := ok("disk", "")
	for _, dir := range []string{o.StateDir, o.CacheDir} {
		free, err := h.Free(h.above(dir))
		if err != nil {
			return Check{"disk", Fail, "free space of " + dir + " is not known: " + err.Error(), ""}
		}
		detail := fmt.Sprintf("%s free for %s", size(free), dir)
		switch {
		case free < leastDisk:
			return Check{"disk", Fail, detail + ", too little for a template", "make room, at least " + size(leastDisk)}
		case free < enoughDisk:
			worst = Check{"disk", Warn, detail + ", enough for a few sandboxes", "make room, " + size(enoughDisk) + " or more"}
		case worst.Detail == "":
			worst.Detail = detail
		}
	}
	return worst
}

func memory(h Host) Check {
	available := meminfo(h, "MemAvailable")
	detail := fmt.Sprintf("%s available of %s", size(available), size(meminfo(h, "MemTotal")))
	switch {
	case available < leastMemory:
		return Check{"memory", Fail, detail + ", too little for a sandbox", "end other programs, or use a larger host"}
	case available < enoughMemory:
		return Check{"memory", Warn, detail + ", enough for a few sandboxes", "end other programs, or use a larger host"}
	}
	return ok("memory", detail)
}

// meminfo returns a field of /proc/meminfo in bytes, 0 if it is not there.
func meminfo(h Host, field string) int64 {
	for line := range strings.Lines(h.read("/proc/meminfo")) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if name == field && err == nil {
			return kib << 10
		}
	}
	return 0
}

func size(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/gib) }

// sidechannels looks at what lets guests watch each other through hardware
// that they share.
func sidechannels(h Host) Check {
	if h.read("/sys/kernel/mm/ksm/run") == "1" {
		return Check{"side channels", Warn, "KSM merges equal pages: a guest can tell by time what others have in memory",
			"echo 2 > /sys/kernel/mm/ksm/run"}
	}
	if h.read("/sys/devices/system/cpu/smt/active") == "1" {
		return Check{"side channels", Warn, "SMT is on: guests on sibling threads share caches",
			"echo off > /sys/devices/system/cpu/smt/control"}
	}
	return ok("side channels", "KSM and SMT are off")
}

func swap(h Host) Check {
	// The first line is the heading.
	if strings.Count(h.read("/proc/swaps"), "\n") > 0 {
		return Check{"swap", Warn, "on: what is in memory may get to the disk and stay there", "swapoff -a"}
	}
	return ok("swap", "off")
}

// daemon says whether the state directory is in use. That is neither good nor
// bad, but a second daemon would be refused.
func daemon(h Host, stateDir string) Check {
	lock := filepath.Join(stateDir, "lock") // as internal/journal has it
	if !h.Locked(lock) {
		return ok("daemon", "none on "+stateDir)
	}
	return ok("daemon", fmt.Sprintf("process %s serves %s", h.read(lock), stateDir))
}
