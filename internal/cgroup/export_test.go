package cgroup

import "path/filepath"

// Parse reads a host from a mount table.
var Parse = parse

// WeightFile is where the weight of all groups together is.
func WeightFile(h *Host) string {
	if dir, ok := h.version1["cpu"]; ok {
		return filepath.Join(dir, parent, "cpu.shares")
	}
	return filepath.Join(h.version2, parent, "cpu.weight")
}

// SetLimits sets the limits of a group that exists.
func SetLimits(g *Group, l Limits) error { return g.setLimits(l) }
