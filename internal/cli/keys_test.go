package cli_test

import (
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
)

// ring forgets keys with the daemon.
type ring struct{}

func (ring) SaveKey(context.Context, auth.Key) error  { return nil }
func (ring) DeleteKey(context.Context, string) error  { return nil }
func (ring) Keys(context.Context) ([]auth.Key, error) { return nil, nil }

// keyring is the daemon's keys.
type keyring struct{ keys *auth.Keys }

func (k keyring) Keys(context.Context) (all []client.Key, err error) {
	for _, key := range k.keys.List() {
		all = append(all, wireKey(key))
	}
	return all, nil
}

func (k keyring) CreateKey(ctx context.Context, r client.KeyRequest) (client.NewKey, error) {
	scope, err := auth.ParseScope(r.Scope)
	if err != nil {
		return client.NewKey{}, err
	}
	key, value, err := k.keys.Create(ctx, auth.Key{Name: r.Name, Team: r.Team, Scope: scope, Expires: expiry(r)})
	return client.NewKey{Key: wireKey(key), Value: value}, err
}

func expiry(r client.KeyRequest) time.Time {
	if r.ExpiresAt == nil {
		return time.Time{}
	}
	return *r.ExpiresAt
}

func (k keyring) RevokeKey(ctx context.Context, name string) error { return k.keys.Revoke(ctx, name) }

func wireKey(k auth.Key) client.Key {
	w := client.Key{Name: k.Name, Team: k.Team, Scope: k.Scope.String(), CreatedAt: k.Created}
	if !k.Expires.IsZero() {
		w.ExpiresAt = &k.Expires
	}
	if !k.Used.IsZero() {
		w.UsedAt = &k.Used
	}
	return w
}
