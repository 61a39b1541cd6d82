package wire

import (
	"maps"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/jail/report"
)

// Cage is what a VMM process may be and do.
func Cage(r report.Report) *client.Cage {
	c := &client.Cage{
		UID: slices.Max(append(r.UIDs, 0)), NoNewPrivs: r.NoNewPrivs, Dumpable: r.Dumpable,
		SeccompMode: r.Seccomp, SeccompFilters: r.Filters,
		Mounts: map[string]string{}, Descriptors: r.Descriptors,
		MemoryBytes: r.Usage.MemoryBytes, PIDs: r.Usage.PIDs,
		Limits: map[string]float64{
			"memory_bytes": float64(r.Group.MemoryBytes), "cpus": r.Group.CPUQuota,
			"cpu_weight": float64(r.Group.CPUWeight), "pids": float64(r.Group.PIDs),
			"file_bytes": float64(r.FileBytes), "open_files": float64(r.OpenFiles), "core_bytes": float64(r.CoreBytes),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(r.Namespaces)) {
		if r.Namespaces[name] {
			c.OwnNamespaces = append(c.OwnNamespaces, name)
		} else {
			c.SharedNamespaces = append(c.SharedNamespaces, name)
		}
	}
	for _, set := range slices.Sorted(maps.Keys(r.Capabilities)) {
		if strings.Trim(r.Capabilities[set], "0") != "" {
			c.Capabilities = append(c.Capabilities, set+" "+r.Capabilities[set])
		}
	}
	for _, m := range r.Mounts {
		c.Mounts[m.Inside] = strings.Join(m.Options, ",")
	}
	return c
}
