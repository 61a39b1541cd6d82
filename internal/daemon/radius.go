package daemon

import (
	"context"
	"fmt"

	"bulkhead/client"
	"bulkhead/internal/vmm/qemu"
)

// BlastRadius implements server.Egress: everything that the agent in a sandbox
// can reach, from the policy in force, the kernel's view of the VMM, and what
// machines are made of.
func (b borders) BlastRadius(ctx context.Context, ref string) (client.BlastRadius, error) {
	s, err := sandboxes(b).Get(ctx, ref)
	if err != nil {
		return client.BlastRadius{}, err
	}
	p, err := b.border.Policy(s.ID)
	if err != nil {
		return client.BlastRadius{}, err
	}
	e, err := b.Egress(ctx, s.ID)
	if err != nil {
		return client.BlastRadius{}, err
	}
	r := client.BlastRadius{
		SandboxID: s.ID, Name: s.Name, State: s.State, Used: e.Used,
		Secrets: []string{}, Neighbours: []string{}, Holes: []string{},
		Devices: qemu.Devices(), Files: map[string]string{},
	}
	for _, rule := range p.All() {
		r.Network = append(r.Network, rule.String())
	}
	r.Network = append(r.Network, "all else: "+string(p.Default))
	if s.VMM == nil || s.VMM.Cage == nil {
		return r, nil
	}
	r.Host, r.Files = s.VMM.Cage, s.VMM.Cage.Mounts
	for _, d := range s.VMM.Cage.Differences {
		r.Holes = append(r.Holes, fmt.Sprintf("%s is %s, must be %s", d.What, d.Got, d.Want))
	}
	return r, nil
}
