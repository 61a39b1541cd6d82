package front

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/jail/report"
	"bulkhead/internal/vmm/qemu"
)

// cage asks the kernel about a sandbox's VMM. One that has just ended has none.
func (a *Front) cage(ctx context.Context, ref string) (*client.Cage, error) {
	dir, err := a.Manager.Console(ref)
	if err != nil {
		return nil, err
	}
	p, err := a.Cages.Find(ctx, dir)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := p.Inspect()
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := wireCage(r)
	c.Differences = []client.CageDifference{}
	for _, d := range p.Verify(r, qemu.Filters) {
		c.Differences = append(c.Differences, client.CageDifference(d))
	}
	return c, nil
}

func wireCage(r report.Report) *client.Cage {
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
