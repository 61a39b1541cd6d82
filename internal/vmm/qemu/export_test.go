package qemu

import "bulkhead/internal/vmm"

// Abandon lets go of a machine as a daemon does that dies.
func Abandon(m vmm.Machine) {
	q := m.(*Machine)
	q.qmp.Close()
	q.console.conn.Close()
}
