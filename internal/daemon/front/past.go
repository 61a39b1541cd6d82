package front

import (
	"context"
	"io"
	"iter"
	"net/http"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/compare"
	"bulkhead/internal/daemon/heed"
	"bulkhead/internal/guest"
	"bulkhead/internal/sandbox/look"
	"bulkhead/proto/machine"
)

// Transport implements server.Sandboxes. A ref like otter@monday leads into a
// snapshot, brought up for the one request.
func (s sandboxes) Transport(ctx context.Context, ref string) (http.RoundTripper, error) {
	ref, snapshot, past := strings.Cut(ref, "@")
	if !past {
		t, err := s.Manager.Transport(ctx, ref)
		if err != nil || !s.Guard.Heeds(ref) {
			return t, err
		}
		return heed.Transport{RoundTripper: t, Judge: func(ctx context.Context, command []string) { s.Guard.Exec(ctx, ref, command) }}, nil
	}
	l, err := s.Look(ctx, ref, snapshot, false)
	if err != nil {
		return nil, err
	}
	return &visit{l}, nil
}

// visit is one request to a machine that ends with its answer.
type visit struct{ look *look.Look }

// RoundTrip implements http.RoundTripper.
func (v *visit) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := v.look.RoundTrip(r)
	if err != nil {
		v.look.Close() // what it leaves, the next start removes
		return nil, err
	}
	resp.Body = &lastBody{resp.Body, v.look}
	return resp, nil
}

// lastBody is an answer after which a machine is of no more use.
type lastBody struct {
	io.ReadCloser
	look *look.Look
}

// Close implements io.Closer.
func (b *lastBody) Close() error {
	err := b.ReadCloser.Close()
	if cerr := b.look.Close(); err == nil {
		err = cerr
	}
	return err
}

// Diff implements server.Snapshots.
func (s snapshots) Diff(ctx context.Context, ref, from, to string) iter.Seq2[client.FileChange, error] {
	return func(yield func(client.FileChange, error) bool) {
		before, endBefore, err := s.view(ctx, ref, from)
		if err != nil {
			yield(client.FileChange{}, err)
			return
		}
		defer endBefore()
		after, endAfter, err := s.view(ctx, ref, to)
		if err != nil {
			yield(client.FileChange{}, err)
			return
		}
		defer endAfter()
		for c, err := range compare.Trees(files(ctx, before), files(ctx, after)) {
			if !yield(wireChange(c), err) {
				return
			}
		}
	}
}

// view returns the way into a snapshot, or into the machine as it is now.
func (s snapshots) view(ctx context.Context, ref, snapshot string) (transport http.RoundTripper, end func(), err error) {
	var l *look.Look
	if snapshot != "" {
		l, err = s.Look(ctx, ref, snapshot, true)
	} else {
		l, err = s.LookNow(ctx, ref)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case l != nil:
		return l, func() { l.Close() }, nil // what it leaves, the next start removes
	}
	transport, err = s.Probe(ctx, ref)
	return transport, func() {}, err
}

func files(ctx context.Context, transport http.RoundTripper) iter.Seq2[compare.Entry, error] {
	return func(yield func(compare.Entry, error) bool) {
		for e, err := range guest.Walk(ctx, transport) {
			if !yield(entry(e), err) {
				return
			}
		}
	}
}

func entry(e *machine.Entry) compare.Entry {
	return compare.Entry{
		Path: string(e.GetPath()), Mode: e.GetMode(), UID: e.GetUid(), GID: e.GetGid(), Size: e.GetSize(),
		Modified: e.GetMtimeNanos(), Changed: e.GetCtimeNanos(), Inode: e.GetInode(),
	}
}

func wireChange(c compare.Change) client.FileChange {
	is := c.After
	if c.Kind == compare.Removed {
		is = c.Before
	}
	return client.FileChange{
		Kind: string(c.Kind), Path: c.Path, Folder: is.Folder(), Mode: is.Mode,
		SizeBefore: c.Before.Size, SizeAfter: c.After.Size,
	}
}
