package shell

import (
	"context"
	"slices"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/ssh/keyring"
)

// SSHInfo implements server.SSH.
func (d *Door) SSHInfo() client.SSHInfo { return d.info }

// keys are those of the teams that who is asking sees.
func (d *Door) keys(ctx context.Context) []keyring.Key {
	p := auth.From(ctx)
	return slices.DeleteFunc(d.ring.List(), func(k keyring.Key) bool { return !p.Sees(k.Team, p.Sandbox) })
}

// SSHKeys implements server.SSH.
func (d *Door) SSHKeys(ctx context.Context) ([]client.SSHKey, error) {
	var all []client.SSHKey
	for _, k := range d.keys(ctx) {
		all = append(all, wireSSHKey(k))
	}
	return all, nil
}

func wireSSHKey(k keyring.Key) client.SSHKey {
	return client.SSHKey{Name: k.Name, Team: k.Team, Fingerprint: k.Fingerprint(), AddedAt: k.Added}
}

// AddSSHKey implements server.SSH.
func (d *Door) AddSSHKey(ctx context.Context, req client.SSHKeyRequest) (client.SSHKey, error) {
	p := auth.From(ctx)
	team := req.Team
	if team == "" {
		team = p.Home()
	}
	if err := auth.CheckTeam(team); err != nil {
		return client.SSHKey{}, err
	}
	if !p.Sees(team, p.Sandbox) {
		return client.SSHKey{}, fault.New(fault.Denied, "key %s is not of team %s", p.Key, team)
	}
	k, err := d.ring.Add(team, req.Name, req.Key)
	if err != nil {
		return client.SSHKey{}, err
	}
	d.event(ctx, "ssh.key_added", "", map[string]string{"team": team, "name": k.Name, "key": k.Fingerprint(), "by": p.Named()})
	return wireSSHKey(k), nil
}

// RemoveSSHKey implements server.SSH.
func (d *Door) RemoveSSHKey(ctx context.Context, ref, team string) error {
	fits := slices.DeleteFunc(d.keys(ctx), func(k keyring.Key) bool {
		return k.Name != ref && k.Fingerprint() != ref || team != "" && k.Team != team
	})
	switch {
	case len(fits) == 0:
		return fault.New(fault.NotFound, "no SSH key is called %.80q", ref).Hint("bulkhead ssh-key ls")
	case len(fits) > 1:
		return fault.New(fault.Invalid, "%d teams have a key %.80q", len(fits), ref).Hint("say whose: --team")
	}
	k, err := d.ring.Remove(fits[0].Team, fits[0].Name)
	if err != nil {
		return err
	}
	d.server.Drop(k.Team, k.Fingerprint())
	d.event(ctx, "ssh.key_removed", "", map[string]string{
		"team": k.Team, "name": k.Name, "key": k.Fingerprint(), "by": auth.From(ctx).Named(),
	})
	return nil
}
