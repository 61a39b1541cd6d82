// Package journal remembers, before a resource of the host is made, that it
// may exist: so that whatever a crash leaves can be found and released.
//
//	Begin ──► make ──► use ──► release ──► End
//	  └── crash anywhere here: the entry is pending, Recover releases it ──┘
//
// An entry therefore means "may exist", never "exists": a release must find
// out, must be content to find nothing, and must recognise the resource by
// more than a number that the host uses again (a process by its start time,
// a loop device by its file).
//
// journal knows neither the resources nor the database: releases and the
// store are given to it. One daemon at a time owns a journal; AcquireLock
// holds the others off. A Journal is safe for concurrent use.
package journal

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of resource an entry is about.
type Kind string

// The kinds. They are stored, so they never change their meaning.
const (
	Process Kind = "process"
	Mount   Kind = "mount"
	Loop    Kind = "loop"
	Netns   Kind = "netns"
	Tap     Kind = "tap"
	Cgroup  Kind = "cgroup"
	UID     Kind = "uid"
)

// Entry is one resource that may exist.
type Entry struct {
	// ID grows with every entry. Begin sets it.
	ID   int64
	Kind Kind
	// Owner is what the resource was made for, as a rule a sandbox's id.
	Owner string
	// Ident is what the release needs to find the resource again: a path, a
	// name, a number with a start time.
	Ident string
}

// String names the entry in errors.
func (e Entry) String() string {
	return fmt.Sprintf("%s %s of %s", e.Kind, e.Ident, e.Owner)
}

// Store keeps entries. What has returned is on stable storage.
type Store interface {
	// Add stores e without its ID and returns the ID that it got, larger than
	// all before. An entry equal in kind, owner and ident is not stored again:
	// its ID is returned.
	Add(ctx context.Context, e Entry) (int64, error)
	// Remove forgets an entry; an unknown ID is no error.
	Remove(ctx context.Context, id int64) error
	// List returns every entry by rising ID.
	List(ctx context.Context) ([]Entry, error)
}

// Release releases what an entry is about. Finding nothing is no error; it
// may be called again for the same entry.
type Release func(ctx context.Context, e Entry) error

// Journal is the list of resources that may exist.
type Journal struct {
	store Store
}

// New returns the journal that is kept in store.
func New(store Store) *Journal { return &Journal{store: store} }

// Begin records that the resource may exist from now on. It comes before the
// resource is made. Repeating it returns the same id.
func (j *Journal) Begin(ctx context.Context, e Entry) (int64, error) {
	if e.Kind == "" || e.Ident == "" {
		return 0, fmt.Errorf("journal %s: entry without kind or ident", e)
	}
	id, err := j.store.Add(ctx, e)
	if err != nil {
		return 0, fmt.Errorf("journal %s: %w", e, err)
	}
	return id, nil
}

// End records that the resource is gone. It comes after the release.
// Repeating it is no error.
func (j *Journal) End(ctx context.Context, id int64) error {
	if err := j.store.Remove(ctx, id); err != nil {
		return fmt.Errorf("end journal entry %d: %w", id, err)
	}
	return nil
}

// EndAll is End for every entry of a kind and an owner.
func (j *Journal) EndAll(ctx context.Context, kind Kind, owner string) error {
	pending, err := j.Pending(ctx)
	if err != nil {
		return err
	}
	for _, e := range pending {
		if e.Kind != kind || e.Owner != owner {
			continue
		}
		if err := j.End(ctx, e.ID); err != nil {
			return err
		}
	}
	return nil
}

// Pending returns every resource that may exist, in the order of Begin.
func (j *Journal) Pending(ctx context.Context) ([]Entry, error) {
	entries, err := j.store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return entries, nil
}

// Recover releases every pending resource, last begun first, and ends its
// entry. What cannot be released keeps its entry and does not stop the rest;
// the errors are joined. Running it again is harmless and goes on with what
// was left.
func (j *Journal) Recover(ctx context.Context, releases map[Kind]Release) error {
	pending, err := j.Pending(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(pending) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("recover: %d entries left: %w", i+1, err))...)
		}
		if err := j.recoverOne(ctx, pending[i], releases); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (j *Journal) recoverOne(ctx context.Context, e Entry, releases map[Kind]Release) error {
	release := releases[e.Kind]
	if release == nil {
		return fmt.Errorf("recover %s: nothing releases this kind", e)
	}
	if err := release(ctx, e); err != nil {
		return fmt.Errorf("recover %s: %w", e, err)
	}
	return j.End(ctx, e.ID)
}
