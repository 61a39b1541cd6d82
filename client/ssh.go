package client

import (
	"context"
	"net/url"
	"time"
)

// SSHInfo says how sandboxes are reached by SSH.
type SSHInfo struct {
	// Address is where it is served, "" for nowhere.
	Address string `json:"address"`
	// HostKey is what known_hosts has after the name.
	HostKey     string `json:"hostKey"`
	Fingerprint string `json:"fingerprint"`
}

// SSHKey is a public key that lets somebody into the sandboxes of a team.
type SSHKey struct {
	Name        string    `json:"name"`
	Team        string    `json:"team"`
	Fingerprint string    `json:"fingerprint"`
	AddedAt     time.Time `json:"addedAt"`
}

// SSHKeyRequest adds a key.
type SSHKeyRequest struct {
	// Key is the content of a .pub file; Name is its comment unless it is given.
	Key  string `json:"key"`
	Name string `json:"name,omitempty"`
	// Team is "" for one's own.
	Team string `json:"team,omitempty"`
}

// SSH says how sandboxes are reached by SSH.
func (c *Client) SSH(ctx context.Context) (i SSHInfo, err error) {
	err = c.call(ctx, "GET", "/ssh", nil, &i)
	return i, err
}

// SSHKeys lists the public keys that let somebody in.
func (c *Client) SSHKeys(ctx context.Context) (all []SSHKey, err error) {
	err = c.call(ctx, "GET", "/ssh/keys", nil, &all)
	return all, err
}

// AddSSHKey lets somebody into the sandboxes of a team.
func (c *Client) AddSSHKey(ctx context.Context, req SSHKeyRequest) (k SSHKey, err error) {
	err = c.call(ctx, "POST", "/ssh/keys", req, &k)
	return k, err
}

// RemoveSSHKey removes a key by its name or fingerprint, and cuts what was
// connected with it. team is "" unless several have such a key.
func (c *Client) RemoveSSHKey(ctx context.Context, ref, team string) error {
	return c.call(ctx, "DELETE", "/ssh/keys/"+segment(ref)+"?team="+url.QueryEscape(team), nil, nil)
}
