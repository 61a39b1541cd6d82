package daemon

import (
	"context"
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon/front"
	"bulkhead/internal/daemon/shell"
	"bulkhead/internal/doctor"
	"bulkhead/internal/mcp"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/local"
	"bulkhead/internal/server/ssh"
)

// asker makes clients of the API for parts of the daemon.
type asker struct {
	// api is set before anybody comes in.
	api *local.API
}

// as returns the API for somebody.
func (a *asker) as(p auth.Principal) *client.Client {
	return a.api.As(func(ctx context.Context) context.Context { return auth.With(ctx, p) })
}

// known is the guard of what parts of the daemon ask: who is asking has been
// said already.
func known(next http.Handler) http.Handler { return next }

// shells opens the way in by SSH.
func (d *Daemon) shells(f *front.Front, a *asker) (*shell.Door, error) {
	return shell.Open(shell.Options{
		StateDir: d.Config.StateDir, Address: d.Config.SSH, Event: f.Events.Append, Clock: d.Clock, Log: d.Log,
		As: func(p auth.Principal) ssh.Sandboxes { return a.as(p) },
	})
}

// tools serves the tools of agents, each for who is asking.
func (d *Daemon) tools(a *asker) http.Handler {
	return mcp.Handler(func(r *http.Request) (mcp.Options, func()) {
		p := auth.From(r.Context())
		api := a.as(p)
		return mcp.Options{API: api, Only: p.Sandbox, Version: d.Version}, api.Close
	})
}

// sshChecks tells the fingerprint of the host's key, once there is one that may
// be read.
func sshChecks(c config.Config) []doctor.Check {
	fingerprint := shell.Fingerprint(c.StateDir)
	if fingerprint == "" {
		return nil
	}
	detail := "served at " + c.SSH
	if c.SSH == "" {
		detail = "not served"
	}
	return []doctor.Check{{Name: "ssh", Status: doctor.OK, Detail: detail + "; the host's key is " + fingerprint}}
}
