package harness

import "bulkhead/test/leak"

// guard has what a killed test leaves of h ended and removed: the processes
// and mounts that its state directory names, and the directory.
func guard(h *Host) (err error) {
	const script = `"$1" debug release --force --state-dir "$2"; rm -rf --one-file-system "$2"`
	h.unguard, err = leak.Guard(h.Dir, "sh", "-c", script, "release", h.Bin, h.Dir)
	return err
}
