package front

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"bulkhead/client"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/fault"
	"bulkhead/internal/parcel"
	"bulkhead/internal/pool"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/name"
	"bulkhead/internal/sandbox/recipe"
	"bulkhead/internal/sandbox/schedule"
	"bulkhead/internal/server/auth"
)

// parcels is the server's Parcels.
type parcels struct{ *Front }

// moved is what a parcel says of its sandbox.
type moved struct {
	Name     string            `json:"name"`
	Template string            `json:"template"`
	Env      map[string]string `json:"env,omitempty"`
	User     string            `json:"user,omitempty"`
	Workdir  string            `json:"workdir,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Schedule schedule.Schedule `json:"schedule,omitzero"`
	// Policy is the egress policy, without its secrets.
	Policy string `json:"policy"`
}

// Export implements server.Parcels.
func (p parcels) Export(ctx context.Context, ref, snapshot string, w io.Writer) error {
	s, err := p.Manager.Get(ref)
	if err != nil {
		return err
	}
	rules, err := p.Border.Policy(string(s.ID))
	if err != nil {
		return err
	}
	says, err := json.Marshal(moved{
		Name: s.Name, Template: s.Template, Env: s.Identity.Env, User: s.Identity.User, Workdir: s.Identity.Workdir, Metadata: s.Metadata, Schedule: s.Schedule,
		Policy: string(rules.WithoutSecrets().Marshal()),
	})
	if err != nil {
		return err
	}
	err = p.Manager.Export(ctx, string(s.ID), snapshot, func(dir string, snap pool.Snapshot) error {
		return parcel.Pack(ctx, w, parcel.About{Made: p.Clock().UTC(), By: p.Version, Version: snap.Version, Sandbox: says}, dir)
	})
	if err == nil {
		p.Events.Append(ctx, "sandbox.exported", string(s.ID), map[string]string{"name": s.Name, "snapshot": snapshot})
	}
	return err
}

// Import implements server.Parcels.
func (p parcels) Import(ctx context.Context, as string, r io.Reader) (client.Sandbox, error) {
	in, err := parcel.Open(r)
	if err != nil {
		return client.Sandbox{}, err
	}
	defer in.Close()
	if err := p.Machines.Fits(ctx, in.About.Version); err != nil {
		return client.Sandbox{}, err
	}
	var says moved
	if err := json.Unmarshal(in.About.Sandbox, &says); err != nil {
		return client.Sandbox{}, fault.New(fault.Corrupt, "what the archive says of its sandbox is not readable: %w", err)
	}
	rules, err := policy.Parse([]byte(says.Policy))
	if err == nil {
		err = entitled(ctx, rules)
	}
	if err != nil {
		return client.Sandbox{}, fmt.Errorf("egress policy of the archive: %w", err)
	}
	if err := (recipe.Defaults{User: says.User, Workdir: says.Workdir}).Check(); err != nil {
		return client.Sandbox{}, fmt.Errorf("defaults of the archive: %w", err)
	}
	wanted, err := says.Schedule.Normal()
	if err != nil {
		return client.Sandbox{}, fmt.Errorf("schedule of the archive: %w", err)
	}
	rec, err := p.Manager.Import(ctx, sandbox.Record{
		Team: auth.From(ctx).Home(), Name: cmp.Or(as, says.Name), Template: name.Clip(says.Template), Metadata: says.Metadata,
		Identity: sandbox.Identity{Env: says.Env, User: says.User, Workdir: says.Workdir}, Schedule: wanted,
	}, sandbox.Cargo{
		Fill:  func(dir string) error { return in.Unpack(ctx, dir, p.room) },
		Ready: func(id sandbox.ID) error { return p.Border.SetPolicy(ctx, string(id), rules) },
	})
	if err != nil {
		return client.Sandbox{}, err
	}
	p.Events.Append(ctx, "sandbox.imported", string(rec.ID), map[string]string{"name": rec.Name, "by": name.Clip(in.About.By)})
	return sandboxes(p).Get(ctx, string(rec.ID))
}

// room returns an error unless the pool has room beyond what it keeps for
// machines.
func (p parcels) room() error {
	u, err := p.Pool.Usage()
	if err == nil && u.Free < u.Reserved {
		err = fault.New(fault.Exhausted, "pool is full: %d MiB free, %d MiB kept for machines", u.Free>>20, u.Reserved>>20).
			Hint("remove snapshots or sandboxes, or enlarge the pool")
	}
	return err
}
