package e2e_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/internal/config"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
)

// A snapshot that slept for an hour comes back with the host's time, and a
// program that ran in it sees the right clock from its first step on.
func TestClockAfterAnHourAsleep(t *testing.T) {
	var asleep atomic.Int64 // nanoseconds that the host's clock is ahead
	clock := func() time.Time { return time.Now().Add(time.Duration(asleep.Load())) }
	h := inProcess(t, clock).Base()
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

// inProcess runs a daemon inside the test, with a clock of its own.
func inProcess(t *testing.T, clock func() time.Time) *harness.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	h := harness.Lent(t, dir)
	cfg, err := config.Load(config.Source{Override: map[string]string{
		"state_dir": dir, "cache_dir": h.Cache, "guest_agent": filepath.Join(filepath.Dir(h.Bin), "bulkhead-guest"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.Daemon{Config: cfg, Version: "test", Clock: clock, Log: slog.New(slog.NewTextHandler(log, nil))}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		h.CLI("rm", "-f", "sleeper") // may never have come to exist
		stop()
		if err := <-ended; err != nil {
			t.Errorf("daemon: %v", err)
		}
		log.Close()
		if err := d.Release(context.Background(), false); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	if err := h.Await(); err != nil {
		t.Fatal(err)
	}
	return h
}
