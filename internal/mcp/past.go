package mcp

import (
	"context"
	"time"

	"bulkhead/client"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// snapshotting is what snapshot is told.
type snapshotting struct {
	which
	Name string `json:"name,omitempty" jsonschema:"what to call it"`
}

// rolling is what rollback is told.
type rolling struct {
	which
	Snapshot string `json:"snapshot" jsonschema:"id or name of the snapshot (timeline)"`
}

// moment is a snapshot.
type moment struct {
	ID     string `json:"id"`
	Name   string `json:"name,omitempty"`
	Parent string `json:"parent,omitempty" jsonschema:"the snapshot that the machine went on from"`
	Taken  string `json:"taken_at"`
	Cause  string `json:"cause"`
	What   string `json:"what,omitempty" jsonschema:"the command or destination that it was taken before"`
}

func newMoment(s client.Snapshot) moment {
	return moment{s.ID, s.Name, s.Parent, s.CreatedAt.UTC().Format(time.RFC3339), s.Cause, short(s.What)}
}

// moments are a timeline.
type moments struct {
	Sandbox string `json:"sandbox"`
	// Head is where the machine goes on from.
	Head      string   `json:"head,omitempty" jsonschema:"the snapshot that the machine goes on from now"`
	Snapshots []moment `json:"snapshots" jsonschema:"oldest first"`
	LeftOut   int      `json:"left_out" jsonschema:"how many older ones were left out"`
}

// back is what a rollback did.
type back struct {
	Sandbox machine `json:"sandbox"`
	Now     moment  `json:"now"`
	Kept    string  `json:"kept,omitempty" jsonschema:"the snapshot of what the machine was: roll back to it to undo this"`
	Lost    string  `json:"lost,omitempty" jsonschema:"why what the machine was could not be kept"`
}

func (t tools) addPast(s *mcp.Server) {
	add(t, s, &mcp.Tool{
		Name: "snapshot", Annotations: changes(false),
		Description: "Keep this moment of a whole machine: files, memory and running programs. It takes a second and does not " +
			"stop anything. Do it before something risky.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in snapshotting) (moment, error) {
		ref, err := t.pick(ctx, in.Sandbox)
		if err != nil {
			return moment{}, err
		}
		snap, err := t.API.Snapshot(ctx, ref, client.SnapshotRequest{Name: in.Name})
		return newMoment(snap), err
	})
	add(t, s, &mcp.Tool{
		Name: "rollback", Annotations: changes(true),
		Description: "Put a whole machine back to a snapshot of its timeline. What it was is kept as another snapshot if it " +
			"still answers; programs that run now end, those of the snapshot go on.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in rolling) (back, error) {
		ref, err := t.pick(ctx, in.Sandbox)
		if err != nil {
			return back{}, err
		}
		r, err := t.API.Rollback(ctx, ref, client.RollbackRequest{Snapshot: in.Snapshot})
		return back{newMachine(r.Sandbox), newMoment(r.Snapshot), r.Kept, r.Lost}, err
	})
	add(t, s, &mcp.Tool{
		Name: "timeline", Annotations: readOnly(), Description: "List the snapshots of a sandbox, and which of them it goes on from.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in which) (moments, error) {
		ref, err := t.pick(ctx, in.Sandbox)
		if err != nil {
			return moments{}, err
		}
		line, err := t.API.Timeline(ctx, ref)
		out := moments{line.SandboxID, line.Head, []moment{}, max(0, len(line.Snapshots)-maxEvents)}
		for _, s := range line.Snapshots[out.LeftOut:] {
			out.Snapshots = append(out.Snapshots, newMoment(s))
		}
		return out, err
	})
}
