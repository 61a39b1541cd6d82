package client

import (
	"context"
	"net/url"
	"time"
)

// Key lets a program use the API. Its value is shown once, when it is made.
type Key struct {
	Name string `json:"name"`
	Team string `json:"team"`
	// Scope is "read", "operate" or "admin".
	Scope string `json:"scope"`
	// SandboxID is the only sandbox that the key is for; "" for all of its team.
	SandboxID string    `json:"sandboxID,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	// ExpiresAt is when it ends; nil for never.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	// UsedAt is when it was used last, give or take a minute; nil for never.
	UsedAt *time.Time `json:"usedAt,omitempty"`
}

// KeyRequest asks for a key.
type KeyRequest struct {
	// Name is unique on the host.
	Name string `json:"name"`
	// Team is whose; "" for the default team, or that of the sandbox.
	Team string `json:"team,omitempty"`
	// Scope is "read", "operate" or "admin"; "" for "operate".
	Scope string `json:"scope,omitempty"`
	// Sandbox restricts the key to one, by id, unique prefix of one, or name.
	Sandbox string `json:"sandbox,omitempty"`
	// ExpiresAt is when it ends; nil for never.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// NewKey is a key with its value.
type NewKey struct {
	Key
	// Value is what programs send. Nobody can find it out later.
	Value string `json:"value"`
}

// Keys lists all keys by name, without their values.
func (c *Client) Keys(ctx context.Context) (all []Key, err error) {
	err = c.call(ctx, "GET", "/keys", nil, &all)
	return all, err
}

// CreateKey makes a key.
func (c *Client) CreateKey(ctx context.Context, req KeyRequest) (k NewKey, err error) {
	err = c.call(ctx, "POST", "/keys", req, &k)
	return k, err
}

// RevokeKey ends a key for good, and what goes on for it.
func (c *Client) RevokeKey(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/keys/"+url.PathEscape(name), nil, nil)
}
