package store

import (
	"context"
	"fmt"

	"bulkhead/internal/server/auth"
	"bulkhead/internal/sqlite"
)

// Keys is the store of keys on the database.
type Keys struct{ Rows sqlite.Keys }

// SaveKey implements auth.Store.
func (k Keys) SaveKey(ctx context.Context, key auth.Key) error {
	return k.Rows.Save(ctx, sqlite.KeyRow{
		Name: key.Name, Hash: key.Hash, Team: key.Team, Scope: key.Scope.String(), Sandbox: key.Sandbox,
		Created: key.Created, Expires: key.Expires, Used: key.Used,
	})
}

// DeleteKey implements auth.Store.
func (k Keys) DeleteKey(ctx context.Context, name string) error { return k.Rows.Delete(ctx, name) }

// Keys implements auth.Store.
func (k Keys) Keys(ctx context.Context) ([]auth.Key, error) {
	rows, err := k.Rows.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]auth.Key, 0, len(rows))
	for _, r := range rows {
		scope, err := auth.ParseScope(r.Scope)
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", r.Name, err)
		}
		all = append(all, auth.Key{
			Name: r.Name, Hash: r.Hash, Team: r.Team, Scope: scope, Sandbox: r.Sandbox,
			Created: r.Created, Expires: r.Expires, Used: r.Used,
		})
	}
	return all, nil
}
