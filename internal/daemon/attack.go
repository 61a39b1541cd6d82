package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"bulkhead/client"
	"bulkhead/internal/attack"
	"bulkhead/internal/doctor"
	"bulkhead/internal/pool"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
)

// Attack makes every attempt of the battery against the cages of this host,
// as they are with the daemon's settings. No daemon is needed. With victim, a
// running sandbox of this state directory, they aim at that. report is called
// after each attempt.
func (d *Daemon) Attack(ctx context.Context, victim *client.Sandbox, report func(attack.Finding)) error {
	if err := os.MkdirAll(d.Config.StateDir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(d.Config.StateDir, "attack-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	spec, err := dummy(dir)
	if err != nil {
		return fmt.Errorf("make a machine without a guest: %w", err)
	}
	cages, err := d.jail()
	if err != nil {
		return err
	}
	accel, _, _ := doctor.Accelerator(d.Config.Accel)
	cage, err := qemu.New(qemu.Config{Binary: d.Config.QEMU, Accel: accel, Jail: cages, Log: d.Log}).Cage(spec)
	if err != nil {
		return err
	}
	o := attack.Options{Jail: cages, Cage: cage, Dir: dir}
	if victim != nil {
		o.Victim = &attack.Victim{
			PID:    victim.VMM.PID,
			Memory: pool.FilesOf(filepath.Join(d.Config.StateDir, "pool"), pool.MachineID(victim.ID)).Memory,
			Socket: filepath.Join(d.Config.StateDir, "run", victim.ID, qemu.ControlSocket),
		}
	}
	return attack.Run(ctx, o, report)
}

// dummy makes the files of the smallest machine, in which nothing runs.
func dummy(dir string) (vmm.Spec, error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	spec := vmm.Spec{
		ID: "attack", CPUs: 1, MemoryMiB: 64,
		Memory: path("memory"), Disk: path("disk"), Kernel: path("kernel"), Initrd: path("initrd"),
		RunDir: path("run"),
	}
	for _, file := range []string{spec.Memory, spec.Disk, spec.Kernel, spec.Initrd} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return vmm.Spec{}, err
		}
	}
	if err := os.Truncate(spec.Memory, int64(spec.MemoryMiB)<<20); err != nil {
		return vmm.Spec{}, err
	}
	return spec, os.Mkdir(spec.RunDir, 0o700)
}
