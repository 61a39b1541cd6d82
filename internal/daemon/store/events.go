package store

import (
	"context"
	"iter"
	"log/slog"

	"bulkhead/client"
	"bulkhead/internal/audit"
	"bulkhead/internal/server"
)

// Events is the heart's Events on the audit log.
type Events struct {
	Audit *audit.Log
	Log   *slog.Logger
}

// Append implements the heart's contract.
func (e Events) Append(ctx context.Context, typ, id string, fields map[string]string) {
	if _, err := e.Audit.Append(typ, id, fields); err != nil {
		e.Log.ErrorContext(ctx, "event not recorded", "op", typ, "sandbox", id, "err", err)
	}
}

// Reader is the server's Events.
func Reader(l *audit.Log) server.Events {
	return func(ctx context.Context, q server.EventQuery) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			for e, err := range l.Read(ctx, audit.Query{
				Since: q.Since, SandboxID: q.SandboxID, Type: q.Type, After: q.After, Follow: q.Follow,
			}) {
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
