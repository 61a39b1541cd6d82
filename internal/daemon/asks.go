package daemon

import (
	"context"
	"net/http"

	"bulkhead/internal/mcp"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/local"
)

// known is the guard of what parts of the daemon ask: who is asking has been
// said already.
func known(next http.Handler) http.Handler { return next }

// as is how parts of the daemon ask for somebody.
func as(p auth.Principal) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context { return auth.With(ctx, p) }
}

// tools serves the tools of agents, each for who is asking. asks leads to the API
// once somebody does.
func (d *Daemon) tools(asks func() *local.API) http.Handler {
	return mcp.Handler(func(r *http.Request) (mcp.Options, func()) {
		p := auth.From(r.Context())
		api := asks().As(as(p))
		return mcp.Options{API: api, Only: p.Sandbox, Version: d.Version}, api.Close
	})
}
