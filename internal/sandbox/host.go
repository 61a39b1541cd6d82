package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hostMemoryMiB is the host's physical memory.
func hostMemoryMiB() (int, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read the host's memory: %w", err)
	}
	return int(info.Totalram * uint64(info.Unit) >> 20), nil
}
