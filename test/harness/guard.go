package harness

import (
	"fmt"
	"os"
	"os/exec"
)

// guard starts a process that outlives a killed test: it waits for the end of
// a pipe that only the test process holds, and then releases whatever the
// host's state directory names. A Host that was closed has nothing left, so
// the release finds nothing to do.
func guard(h *Host) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	const script = `cat >/dev/null; test -d "$2" || exit 0; "$1" debug release --force --state-dir "$2"; rm -rf --one-file-system "$2"`
	cmd := exec.Command("sh", "-c", script, "bulkhead-test-guard", h.Bin, h.Dir)
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start guard: %w", err)
	}
	h.unguard = func() error {
		w.Close()
		return cmd.Wait()
	}
	return nil
}
