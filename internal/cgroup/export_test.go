package cgroup

// Parse reads a host from a mount table.
var Parse = parse

// SetLimits sets the limits of a group that exists.
func SetLimits(g *Group, l Limits) error { return g.setLimits(l) }
