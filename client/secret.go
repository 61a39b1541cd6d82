package client

import (
	"context"
	"net/url"
	"time"
)

// Secret is a value on the host that sandboxes may use and never see.
type Secret struct {
	Name string `json:"name"`
	// Set is when its value was last set.
	Set time.Time `json:"set"`
	// UsedBy names the sandboxes whose policy lets them use it.
	UsedBy []string `json:"usedBy"`
}

// SecretRequest sets a value.
type SecretRequest struct {
	// Value is one line of 8 bytes to 16 KiB.
	Value string `json:"value"`
}

// EgressSecret says how requests to a name use a secret.
type EgressSecret struct {
	Name string `json:"name"`
	// Header is "Name: text" with {} for the value; "" if Env is the variable in
	// which the guest has a placeholder.
	Header string `json:"header,omitempty"`
	Env    string `json:"env,omitempty"`
}

// Secrets lists all secrets of the host, without their values.
func (c *Client) Secrets(ctx context.Context) (all []Secret, err error) {
	err = c.call(ctx, "GET", "/secrets", nil, &all)
	return all, err
}

// SetSecret stores a value, in place of an older one. It counts from the next
// request on.
func (c *Client) SetSecret(ctx context.Context, name, value string) error {
	return c.call(ctx, "PUT", "/secrets/"+url.PathEscape(name), SecretRequest{value}, nil)
}

// RemoveSecret removes a secret. Requests that need it are refused from then
// on.
func (c *Client) RemoveSecret(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/secrets/"+url.PathEscape(name), nil, nil)
}
