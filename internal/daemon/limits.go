package daemon

import (
	"runtime"

	"bulkhead/internal/config"
	"bulkhead/internal/sandbox/capacity"

	"golang.org/x/sys/unix"
)

// cpusEach is how many virtual CPUs there may be for each of the host's: most
// agents wait most of the time.
const cpusEach = 16

// limits fills in what the operator leaves to the host's size.
func limits(c config.Limits) capacity.Limits {
	l := capacity.Limits{Sandboxes: c.Sandboxes, Snapshots: c.Snapshots, MemoryMiB: c.MemoryMiB, CPUs: c.CPUs, Team: c.TeamSandboxes}
	if l.CPUs == 0 {
		l.CPUs = cpusEach * runtime.NumCPU()
	}
	var info unix.Sysinfo_t
	if l.MemoryMiB == 0 && unix.Sysinfo(&info) == nil {
		l.MemoryMiB = int(info.Totalram * uint64(info.Unit) >> 20)
	}
	return l
}
