package daemon

import (
	"context"

	"bulkhead/internal/daemon/build"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/recipe/layer"
	"bulkhead/internal/sandbox/recipe/record"
	"bulkhead/internal/sandbox/recipe/upload"
	"bulkhead/internal/sandbox/recipe/works"
)

// works makes what builds templates by recipes. Builds that an earlier daemon
// left under way have failed then; it comes after the heart has recovered, which
// has ended their machines.
func (d *Daemon) works(ctx context.Context, h *heart, event func(context.Context, string, string, map[string]string)) (*works.Works, error) {
	records, uploads := build.Folders(d.Config.StateDir)
	book, err := record.Open(ctx, records, d.Clock, build.Told(event))
	if err != nil {
		return nil, err
	}
	files, err := upload.Open(uploads, upload.Limits{File: build.MaxFiles, Team: build.MaxTeamKeep}, d.Clock)
	if err != nil {
		return nil, err
	}
	def := d.Config.Template
	bases := build.Bases{Templates: h.templates, Size: live.Size{CPUs: def.CPUs, MemoryMiB: def.MemoryMiB}, DiskMiB: def.DiskMiB}
	return works.New(works.Parts{
		Machines: h.Machines, Templates: h.templates, Bases: bases, Book: book, Files: files,
		Shelf: &layer.Shelf{Pool: h.Machines.Pool, Clock: d.Clock}, Room: h.RoomFor, Team: d.Config.Limits.TeamBuilds,
		Clock: d.Clock, Log: d.Log,
	}), nil
}
