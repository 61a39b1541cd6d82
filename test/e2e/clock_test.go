package e2e_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/internal/daemon"
	"bulkhead/test/inside"
)

// A snapshot that slept for an hour comes back with the host's time, and a
// program that ran in it sees the right clock from its first step on.
func TestClockAfterAnHourAsleep(t *testing.T) {
	var asleep atomic.Int64 // nanoseconds that the host's clock is ahead
	clock := func() time.Time { return time.Now().Add(time.Duration(asleep.Load())) }
	h := inside.Run(t, daemon.Daemon{Clock: clock}, nil).Base()
	b := h.Create("sleeper")
	// It notes the time ten times a second, so that the first note after the
	// restore is the first step that it makes.
	b.Sh(`cat > /run/watch.py <<'EOF'
import time
last = time.time()
while True:
    now = time.time()
    if now - last > 600:
        print(now, file=open("/run/first", "w"), flush=True)
    last = now
    open("/run/watching", "w")
    time.sleep(0.1)
EOF
systemd-run --quiet python3 /run/watch.py
until test -e /run/watching; do sleep 0.05; done`)
	b.Snapshot("evening")

	asleep.Store(int64(time.Hour))
	began := clock()
	b.Rollback("evening")
	ended := clock()
	before := clock()
	says := b.Sh("date +%s.%N")
	after := clock()
	checkClock(t, "date", says, before, after)
	first := b.Sh("until test -s /run/first; do sleep 0.05; done; cat /run/first")
	checkClock(t, "first step of a running program", first, began, ended.Add(5*time.Second))
}

// checkClock checks that the guest said a time between two moments of the
// host, give or take what a clock may be off.
func checkClock(t *testing.T, what, says string, from, to time.Time) {
	t.Helper()
	const skew = 100 * time.Millisecond
	f, err := strconv.ParseFloat(says, 64)
	if err != nil {
		t.Fatal(err)
	}
	got := time.UnixMicro(int64(f * 1e6))
	if got.Before(from.Add(-skew)) || got.After(to.Add(skew)) {
		t.Errorf("%s: guest says %s, host's clock was %s to %s", what, got, from, to)
	}
}
