package front

import (
	"context"
	"slices"

	"bulkhead/client"
)

// vaults is the server's Secrets.
type vaults struct{ *Front }

func (v vaults) Secrets(context.Context) ([]client.Secret, error) {
	users, err := v.users()
	all := []client.Secret{}
	for _, e := range v.Vault.List() {
		all = append(all, client.Secret{Name: e.Name, Set: e.Set, UsedBy: append([]string{}, users[e.Name]...)})
	}
	return all, err
}

// users returns the names of the sandboxes that may use each secret.
func (v vaults) users() (map[string][]string, error) {
	users := map[string][]string{}
	for _, s := range v.Manager.List() {
		p, err := v.Border.Policy(string(s.ID))
		if err != nil {
			return nil, err
		}
		for _, r := range p.Rules {
			for _, secret := range r.Secrets {
				if !slices.Contains(users[secret.Name], s.Name) {
					users[secret.Name] = append(users[secret.Name], s.Name)
				}
			}
		}
	}
	return users, nil
}

func (v vaults) SetSecret(ctx context.Context, name, value string) error {
	if err := v.Vault.Set(name, value); err != nil {
		return err
	}
	v.Events.Append(ctx, "secret.set", "", map[string]string{"secret": name})
	return nil
}

func (v vaults) RemoveSecret(ctx context.Context, name string) error {
	if err := v.Vault.Remove(name); err != nil {
		return err
	}
	v.Events.Append(ctx, "secret.removed", "", map[string]string{"secret": name})
	return nil
}
