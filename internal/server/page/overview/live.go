package overview

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"

	"bulkhead/client"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/reply"
)

const (
	// every is how often watchers are told what has changed; settle is how long
	// after an event that is done, so that a burst of them is told once.
	every  = 2 * time.Second
	settle = 100 * time.Millisecond
	// quiet is how long a stream may be silent: proxies cut those that are for a
	// minute.
	quiet = 20 * time.Second
)

// Live tells watchers what happens.
type Live struct {
	*Sampler
	// Events returns events after a number, and waits for more until ctx ends.
	Events func(ctx context.Context, since uint64) iter.Seq2[client.Event, error]
}

// Once answers with an overview.
func (l *Live) Once(w http.ResponseWriter, r *http.Request) error {
	o, err := l.Look(r.Context(), time.Time{})
	if err == nil {
		reply.JSON(w, http.StatusOK, visible(auth.From(r.Context()), o))
	}
	return err
}

// visible is the part of an overview that is for who is asking.
func visible(p auth.Principal, o client.Overview) client.Overview {
	seen := o
	seen.Sandboxes, seen.Pending = []client.Activity{}, []client.EgressQuestion{}
	ids := map[string]bool{}
	for _, a := range o.Sandboxes {
		if p.Sees(cmp.Or(a.Team, auth.DefaultTeam), a.ID) {
			ids[a.ID] = true
			if !p.Administers() {
				a.VMM = nil
			}
			seen.Sandboxes = append(seen.Sandboxes, a)
		}
	}
	for _, q := range o.Pending {
		if ids[q.SandboxID] {
			seen.Pending = append(seen.Pending, q)
		}
	}
	if !p.Owner() {
		seen.Host = client.HostLoad{}
	}
	return seen
}

// Stream answers with server-sent events until the request's context ends:
// "overview" whenever that has changed, and "audit" for each event, whose
// number a client that comes back sends as Last-Event-ID.
func (l *Live) Stream(w http.ResponseWriter, r *http.Request) error {
	since := l.LastEvent()
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if n, err := strconv.ParseUint(id, 10, 64); err == nil && n < since {
			since = n
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	ctx, stop := context.WithCancel(r.Context())
	events := make(chan client.Event)
	failed := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(events)
		for e, err := range l.Events(ctx, since) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	t := teller{w: w, control: http.NewResponseController(w)}
	err := l.tell(ctx, &t, events)
	stop()
	reader.Wait()
	select {
	case readErr := <-failed:
		if r.Context().Err() == nil {
			err = errors.Join(err, readErr)
		}
	default:
	}
	return err
}

// tell tells of events and of what has changed, until ctx or the events end.
func (l *Live) tell(ctx context.Context, t *teller, events <-chan client.Event) error {
	var happened time.Time // zero while nothing has that is not told
	due := time.NewTimer(0)
	defer due.Stop()
	silent := time.NewTicker(quiet)
	defer silent.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, more := <-events:
			if !more {
				return nil
			}
			if err := t.send("audit", strconv.FormatUint(e.Seq, 10), e); err != nil {
				return nil // the watcher has left
			}
			if happened.IsZero() {
				due.Reset(settle)
			}
			happened = l.Clock()
		case <-due.C:
			o, err := l.Look(ctx, happened)
			if err != nil && ctx.Err() == nil {
				return err
			}
			happened = time.Time{}
			due.Reset(every)
			if err == nil && t.news(visible(auth.From(ctx), o)) != nil {
				return nil
			}
		case <-silent.C:
			if t.raw(": still here\n\n") != nil {
				return nil
			}
		}
	}
}

// teller writes server-sent events (HTML Standard, section 9.2).
type teller struct {
	w       http.ResponseWriter
	control *http.ResponseController
	told    []byte
}

// news sends an overview unless it was the last one sent.
func (t *teller) news(o client.Overview) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if bytes.Equal(b, t.told) {
		return nil
	}
	t.told = b
	return t.raw(fmt.Sprintf("event: overview\ndata: %s\n\n", b))
}

// send sends one event. JSON has no line breaks.
func (t *teller) send(kind, id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return t.raw(fmt.Sprintf("event: %s\nid: %s\ndata: %s\n\n", kind, id, b))
}

func (t *teller) raw(s string) error {
	if _, err := t.w.Write([]byte(s)); err != nil {
		return err
	}
	return t.control.Flush()
}
