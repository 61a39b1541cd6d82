package sqlite_test

import (
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/journal"
	"bulkhead/internal/sqlite"

	"github.com/google/go-cmp/cmp"
)

func fullRow() sqlite.SandboxRow {
	return sqlite.SandboxRow{
		ID: "i1", Name: "web", Template: "base", State: "crashed", Reason: "VMM died: 'signal: killed'",
		Created: time.Unix(1700000000, 123456789).UTC(), Started: time.Unix(1700000001, 1).UTC(),
		CPUs: 2, MemoryMiB: 512, DiskMiB: 8192, Head: "s1", Spec: []byte("{\"env\":\"\x00\"}"),
	}
}

func TestSandboxes(t *testing.T) {
	changed := fullRow()
	changed.State, changed.Name, changed.Head = "running", "web2", ""
	twin := sqlite.SandboxRow{ID: "i2", Name: "web", Created: time.Unix(1, 0).UTC()}
	tests := map[string]struct {
		save []sqlite.SandboxRow
		del  []string
		want []sqlite.SandboxRow
	}{
		"every field comes back":         {save: []sqlite.SandboxRow{fullRow()}, want: []sqlite.SandboxRow{fullRow()}},
		"zero values stay zero":          {save: []sqlite.SandboxRow{{ID: "i0"}}, want: []sqlite.SandboxRow{{ID: "i0"}}},
		"the same id is replaced":        {save: []sqlite.SandboxRow{fullRow(), changed}, want: []sqlite.SandboxRow{changed}},
		"oldest comes first":             {save: []sqlite.SandboxRow{changed, twin}, want: []sqlite.SandboxRow{twin, changed}},
		"rows without a name are many":   {save: []sqlite.SandboxRow{{ID: "a"}, {ID: "b"}}, del: []string{"a"}, want: []sqlite.SandboxRow{{ID: "b"}}},
		"a deleted name is free":         {save: []sqlite.SandboxRow{fullRow()}, del: []string{"i1"}},
		"deleting nothing is no error":   {del: []string{"i1", "i1"}},
		"quotes in an id are characters": {save: []sqlite.SandboxRow{{ID: "'; --"}}, del: []string{"'; --"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			table := open(t, dbPath(t)).Sandboxes()
			for _, r := range tt.save {
				if err := table.Save(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range tt.del {
				if err := table.Delete(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			got, err := table.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSandboxNameIsUnique(t *testing.T) {
	table := open(t, dbPath(t)).Sandboxes()
	if err := table.Save(t.Context(), fullRow()); err != nil {
		t.Fatal(err)
	}
	other := fullRow()
	other.ID = "i2"
	err := table.Save(t.Context(), other)
	if got, want := fault.KindOf(err), fault.Exists; got != want {
		t.Fatalf("kind of %v = %s, want %s", err, got, want)
	}
	if got, want := err.Error(), "sandbox web exists already"; got != want {
		t.Errorf("error = %q, want %q", got, want)
	}
	rows, err := table.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sqlite.SandboxRow{fullRow()}, rows); diff != "" {
		t.Error(diff)
	}
}

func TestTemplates(t *testing.T) {
	table := open(t, dbPath(t)).Templates()
	base := sqlite.TemplateRow{Name: "base", Snapshot: "s1", Created: time.Unix(9, 9).UTC(), Spec: []byte(`{}`)}
	alpha := sqlite.TemplateRow{Name: "alpha", Snapshot: "s2"}
	rebuilt := base
	rebuilt.Snapshot = "s3"
	for _, r := range []sqlite.TemplateRow{base, alpha, rebuilt} {
		if err := table.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := table.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sqlite.TemplateRow{alpha, rebuilt}, got); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := table.Delete(t.Context(), "base"); err != nil {
			t.Fatal(err)
		}
	}
	got, err = table.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sqlite.TemplateRow{alpha}, got); diff != "" {
		t.Error(diff)
	}
}

func TestJournalIDsRiseAndAreNotUsedAgain(t *testing.T) {
	table := open(t, dbPath(t)).Journal()
	add := func(ident string) int64 {
		t.Helper()
		id, err := table.Add(t.Context(), journal.Entry{Kind: journal.Mount, Owner: "i1", Ident: ident})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	a, b := add("/a"), add("/b")
	if again := add("/a"); again != a {
		t.Errorf("id of a repeated entry = %d, want %d", again, a)
	}
	for range 2 {
		if err := table.Remove(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	c := add("/c")
	if a >= b || b >= c {
		t.Errorf("ids %d, %d, %d do not rise", a, b, c)
	}
	got, err := table.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []journal.Entry{
		{ID: a, Kind: journal.Mount, Owner: "i1", Ident: "/a"},
		{ID: c, Kind: journal.Mount, Owner: "i1", Ident: "/c"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
