// Package inside runs a daemon in a test's own process, for tests that lend it
// something: a clock, or a way out of the host. The command line drives it as
// any other daemon.
//
// inside knows the daemon; package harness does not. The test binary's TestMain
// must call jail.Enter first.
package inside

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/config"
	"bulkhead/internal/daemon"
	"bulkhead/test/harness"
)

// Run runs a daemon on a fresh state directory until the test ends. Its
// configuration, version and log are set here; all else is the caller's. The
// caller removes its sandboxes.
func Run(t *testing.T, d daemon.Daemon, settings map[string]string) *harness.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	h := harness.Lent(t, dir)
	override := map[string]string{
		"state_dir": dir, "cache_dir": h.Cache, "guest_agent": filepath.Join(filepath.Dir(h.Bin), "bulkhead-guest"),
		"log_level": "debug",
	}
	for key, value := range settings {
		override[key] = value
	}
	if d.Config, err = config.Load(config.Source{Override: override}); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	d.Version = "test"
	d.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: d.Config.LogLevel}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("daemon: %v", err)
		}
		if t.Failed() {
			t.Logf("daemon's log:\n%s", h.LogTail(8<<10))
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
