package store

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"

	"bulkhead/client"
	"bulkhead/internal/audit"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
)

// Events is the heart's Events on the audit log.
type Events struct {
	Audit *audit.Log
	// Team returns whose sandbox an id is of; ok is false for one that is of none
	// (any more). Nil if there are no sandboxes.
	Team func(id string) (team string, ok bool)
	// Seen is told of each event, before that is recorded; nil for nobody.
	Seen func(typ string, fields map[string]string)
	Log  *slog.Logger
}

// teamField says in an event whose sandbox it is about, unless that is the
// default team's. What has it stays visible to that team once the sandbox is
// gone, and to no other.
const teamField = "team"

// nobodys is the team of what nobody knows any more: the operator sees it.
const nobodys = "-"

// Append implements the heart's contract.
func (e Events) Append(ctx context.Context, typ, id string, fields map[string]string) {
	if e.Seen != nil {
		e.Seen(typ, fields)
	}
	if team := e.teamOf(id); team != auth.DefaultTeam {
		fields = maps.Clone(fields)
		if fields == nil {
			fields = map[string]string{}
		}
		fields[teamField] = team
	}
	if _, err := e.Audit.Append(typ, id, fields); err != nil {
		e.Log.ErrorContext(ctx, "event not recorded", "op", typ, "sandbox", id, "err", err)
	}
}

func (e Events) teamOf(id string) string {
	if id == "" || e.Team == nil {
		return auth.DefaultTeam
	}
	if team, ok := e.Team(id); ok {
		return team
	}
	return nobodys
}

// visible reports whether an event is for who is asking: those about the host
// itself are for those who own it.
func visible(p auth.Principal, e audit.Event) bool {
	if e.SandboxID == "" {
		return p.Owner()
	}
	return p.Sees(cmp.Or(e.Fields[teamField], auth.DefaultTeam), e.SandboxID)
}

// Reader is the server's Events, for who is asking.
func Reader(l *audit.Log) server.Events {
	return func(ctx context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			for e, err := range l.Read(ctx, audit.Query{
				Since: q.Since, SandboxID: q.SandboxID, Type: q.Type, After: q.After, Follow: q.Follow,
			}) {
				if err == nil && !visible(auth.From(ctx), e) {
					continue
				}
				if !yield(client.Event(e), err) {
					return
				}
			}
		}
	}
}

// Verifier is the server's EventsVerified.
func Verifier(l *audit.Log) server.EventsVerified {
	return func(ctx context.Context) (client.EventsReport, error) {
		r, err := l.Verify(ctx)
		return client.EventsReport(r), err
	}
}
