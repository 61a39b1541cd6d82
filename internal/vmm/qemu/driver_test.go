package qemu_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/config"
	"bulkhead/internal/jail"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
	"bulkhead/internal/vmm/vmmtest"
)

// TestDriver holds the driver to its contract, on real machines. Their guests
// see a network, a block, a console, an entropy and a balloon device (virtio
// 1.2, section 5).
func TestDriver(t *testing.T) {
	vmmtest.Run(t, newDriver, "0x0001 0x0002 0x0003 0x0004 0x0005")
}

// TestMain is the program that starts cages too.
func TestMain(m *testing.M) {
	jail.Enter()
	os.Exit(m.Run())
}

func newDriver(t *testing.T) vmm.Driver {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cages, err := jail.New(jail.Config{
		Dir: filepath.Join(os.TempDir(), "bulkhead-jail-test"), Leases: jail.DefaultLeases,
		FirstUID: config.DefaultJailFirstUID, UIDs: config.DefaultJailUIDs, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return qemu.New(qemu.Config{Accel: vmm.TCG, Jail: cages, Log: log})
}
