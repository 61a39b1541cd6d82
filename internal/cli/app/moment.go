package app

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
)

// Moment reads an argument that is a sandbox, a snapshot of one after an @, or the
// id of a snapshot. snapshot is "" for now.
func (a *App) Moment(ctx context.Context, arg string) (sandbox, snapshot string, err error) {
	sandbox, snapshot, named := strings.Cut(arg, "@")
	if named {
		return sandbox, snapshot, nil
	}
	sandbox, of, err := a.Moments(ctx, []string{arg}, 1)
	return sandbox, strings.Join(of, ""), err
}

// snapshotID is the form of the ids of snapshots, which name what they are of
// (package pool).
var snapshotID = regexp.MustCompile(`^s[a-z2-7]{12}$`)

// Moments reads arguments that are a sandbox and snapshots of it, at most so
// many, or snapshots alone, of which the first is an id. A name or id of a
// sandbox comes first.
func (a *App) Moments(ctx context.Context, args []string, most int) (sandbox string, snapshots []string, err error) {
	sandbox, snapshots = args[0], args[1:]
	if !snapshotID.MatchString(sandbox) {
		return sandbox, snapshots, nil
	}
	all, err := a.API.Sandboxes(ctx)
	if err != nil {
		return "", nil, err
	}
	if slices.ContainsFunc(all, func(s client.Sandbox) bool { return s.Name == sandbox }) {
		return sandbox, snapshots, nil
	}
	of, err := a.owner(ctx, all, sandbox)
	switch {
	case err != nil:
		return "", nil, err
	case of == "":
		return sandbox, snapshots, nil // and the daemon says that there is no such sandbox
	case len(args) > most:
		return "", nil, fault.New(fault.Invalid, "%s is a snapshot of %s: %d more are too many", sandbox, of, len(args)-most)
	}
	return of, args, nil
}

// owner returns the name of the sandbox that has a snapshot, "" if none has it.
func (a *App) owner(ctx context.Context, all []client.Sandbox, id string) (string, error) {
	for _, s := range all {
		line, err := a.API.Timeline(ctx, s.ID)
		var e *client.Error
		if err != nil && (!errors.As(err, &e) || e.Kind != string(fault.NotFound)) { // else it was removed just now
			return "", err
		}
		if slices.ContainsFunc(line.Snapshots, func(s client.Snapshot) bool { return s.ID == id }) {
			return s.Name, nil
		}
	}
	return "", nil
}
