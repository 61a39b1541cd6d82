package qemu_test

import (
	"log/slog"
	"testing"

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

func newDriver(*testing.T) vmm.Driver {
	return qemu.New(qemu.Config{Accel: vmm.TCG, Log: slog.New(slog.DiscardHandler)})
}
