package qemu

import "time"

// rdtsc reads the CPU's time stamp counter.
func rdtsc() uint64

// tscSpan is the time over which the counter is measured: long enough for an
// error of a few parts in a million, short enough not to be noticed.
const tscSpan = 20 * time.Millisecond

// tscKHz measures the frequency of the host's time stamp counter, which is
// what a guest under TCG reads.
//
// The guest is told (tsc_early_khz) because it cannot measure it on a busy
// host: the kernel times the counter against the PIT in a tight loop, gives up
// when the translator is preempted in it, and then waits for ticks of a PIT
// whose interrupt nobody routes on a machine without legacy ACPI. Under load
// 5 of 6 boots hung there; told the frequency, 0 of 22 (measured with QEMU 7.2
// and Linux 6.1).
func tscKHz() uint64 {
	c0, t0 := stamp()
	for time.Since(t0) < tscSpan {
	}
	c1, t1 := stamp()
	return (c1 - c0) * uint64(time.Millisecond) / uint64(t1.Sub(t0))
}

// stamp reads counter and clock at one moment: the closest of a few tries, in
// case that we are preempted between the two.
func stamp() (c uint64, t time.Time) {
	closest := ^uint64(0)
	for range 16 {
		before := rdtsc()
		now := time.Now()
		after := rdtsc()
		if after-before < closest {
			closest, c, t = after-before, before+(after-before)/2, now
		}
	}
	return c, t
}
