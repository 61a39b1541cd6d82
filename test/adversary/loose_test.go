package adversary_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/attack"
	"bulkhead/internal/config"
	"bulkhead/internal/jail"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
	"bulkhead/test/leak"
)

// The battery finds holes: here each wall has some.
func TestHolesAreFound(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	cages, err := jail.New(jail.Config{
		Dir: filepath.Join(dir, "jail"), Leases: jail.DefaultLeases,
		FirstUID: config.DefaultJailFirstUID, UIDs: config.DefaultJailUIDs, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	aim := filepath.Join(dir, "aim")
	if err := os.Mkdir(aim, 0o700); err != nil {
		t.Fatal(err)
	}
	err = attack.Run(t.Context(), attack.Options{Jail: cages, Cage: loose(t, dir), Dir: aim},
		func(f attack.Finding) { found[f.Attempt] = !f.Holds })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"start a process", "make ourselves traceable", "use the kernel's keys", "open a netlink socket",
		"write a file past its limit", "start more threads than allowed", "take more memory than allowed",
		"find devices in /dev", "signal a process of the host",
	} {
		if !found[name] {
			t.Errorf("the hole is not found: %s", name)
		}
	}
	if found["read another sandbox's memory"] {
		t.Error("a wall that holds is called a hole")
	}
}

// loose makes a cage with holes.
func loose(t *testing.T, dir string) jail.Cage {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	spec := vmm.Spec{
		ID: "loose", CPUs: 1, MemoryMiB: 64,
		Memory: path("memory"), Disk: path("disk"), Kernel: path("kernel"), Initrd: path("initrd"), RunDir: path("run"),
	}
	for _, file := range []string{spec.Memory, spec.Disk, spec.Kernel, spec.Initrd} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(spec.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)}).Cage(spec)
	if err != nil {
		t.Fatal(err)
	}
	c.Program.Devices = append(c.Program.Devices, "/dev/null")
	c.Syscalls.Allow = append(c.Syscalls.Allow, "socket", "kill", "keyctl", "fork")
	c.Limits.FileBytes = 4 << 30
	c.Limits.Group.PIDs = 1000
	c.Limits.Group.MemoryBytes = 4 << 30
	c.Unfiltered = true
	return c
}
