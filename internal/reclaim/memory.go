package reclaim

import (
	"bytes"
	"os"
	"strconv"
)

// spare is what a machine keeps beside the memory that its programs use, in MiB,
// and half of that again: for its kernel, and for what they read often.
const spare = 64

// Needs is what a quiet machine is left of its memory, in MiB, if its programs
// use so much of it. What they use is the guest's word: it counts within bounds.
func Needs(sizeMiB, usedMiB int) int {
	usedMiB = min(max(usedMiB, 0), sizeMiB)
	return min(max(usedMiB*3/2+spare, sizeMiB/4), sizeMiB)
}

// shortBelow is the share of its memory, in percent, that a host must be able to
// give to whoever asks.
const shortBelow = 10

// Short reports whether the host is short of memory.
func Short() bool {
	b, err := os.ReadFile("/proc/meminfo")
	return err == nil && short(b)
}

// short reads what proc_meminfo(5) describes.
func short(meminfo []byte) bool {
	is := map[string]int64{}
	for line := range bytes.Lines(meminfo) {
		if f := bytes.Fields(line); len(f) >= 2 {
			n, _ := strconv.ParseInt(string(f[1]), 10, 64) // what is no number is not asked for
			is[string(f[0])] = n
		}
	}
	return is["MemTotal:"] > 0 && is["MemAvailable:"]*100 < is["MemTotal:"]*shortBelow
}
