package front

import (
	"cmp"
	"context"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/server/auth"
)

// ring is the server's Keys.
type ring struct{ *Front }

// Keys implements server.Keys.
func (r ring) Keys(context.Context) ([]client.Key, error) {
	all := []client.Key{}
	for _, k := range r.Front.Keys.List() {
		all = append(all, wireKey(k))
	}
	return all, nil
}

// CreateKey implements server.Keys.
func (r ring) CreateKey(ctx context.Context, req client.KeyRequest) (client.NewKey, error) {
	scope, err := auth.ParseScope(cmp.Or(req.Scope, auth.Operate.String()))
	if err != nil {
		return client.NewKey{}, err
	}
	key := auth.Key{Name: req.Name, Team: req.Team, Scope: scope}
	if req.Sandbox != "" {
		b, err := r.GetAmong(req.Sandbox, func(rec sandbox.Record) bool { return sees(ctx, rec) })
		if err != nil {
			return client.NewKey{}, err
		}
		if key.Team != "" && key.Team != b.Team {
			return client.NewKey{}, fault.New(fault.Invalid, "sandbox %s is of team %s", b.Name, b.Team)
		}
		key.Team, key.Sandbox = b.Team, string(b.ID)
	}
	key.Team = cmp.Or(key.Team, auth.DefaultTeam)
	if req.ExpiresAt != nil {
		key.Expires = *req.ExpiresAt
	}
	made, value, err := r.Front.Keys.Create(ctx, key)
	if err != nil {
		return client.NewKey{}, err
	}
	r.Events.Append(ctx, "key.created", made.Sandbox, map[string]string{
		"key": made.Name, "for": made.Team, "scope": made.Scope.String(), "by": auth.From(ctx).Named(),
	})
	return client.NewKey{Key: wireKey(made), Value: value}, nil
}

// RevokeKey implements server.Keys.
func (r ring) RevokeKey(ctx context.Context, name string) error {
	if err := r.Front.Keys.Revoke(ctx, name); err != nil {
		return err
	}
	r.Events.Append(ctx, "key.revoked", "", map[string]string{"key": name, "by": auth.From(ctx).Named()})
	return nil
}

func wireKey(k auth.Key) client.Key {
	return client.Key{
		Name: k.Name, Team: k.Team, Scope: k.Scope.String(), SandboxID: k.Sandbox,
		CreatedAt: k.Created, ExpiresAt: unlessZero(k.Expires), UsedAt: unlessZero(k.Used),
	}
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
