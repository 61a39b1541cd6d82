package sqlite_test

import (
	"database/sql"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/sqlite"

	"github.com/google/go-cmp/cmp"
)

func TestKeys(t *testing.T) {
	keys := open(t, dbPath(t)).Keys()
	a := sqlite.KeyRow{Name: "a", Hash: []byte{1, 2}, Team: "acme", Scope: "read", Created: time.Unix(5, 7).UTC()}
	b := sqlite.KeyRow{Name: "b", Hash: []byte{3}, Team: "acme", Scope: "operate", Sandbox: "i1", Expires: time.Unix(9, 0).UTC()}
	for _, r := range []sqlite.KeyRow{b, a} {
		if err := keys.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	a.Used = time.Unix(6, 0).UTC()
	if err := keys.Save(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	check := func(want ...sqlite.KeyRow) {
		t.Helper()
		got, err := keys.List(t.Context())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	check(a, b)
	for range 2 { // there being none is no error
		if err := keys.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	check(b)
}

func TestNamesAreUniqueWithinATeam(t *testing.T) {
	boxes := open(t, dbPath(t)).Sandboxes()
	if err := boxes.Save(t.Context(), sqlite.SandboxRow{ID: "i1", Team: "a", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if err := boxes.Save(t.Context(), sqlite.SandboxRow{ID: "i2", Team: "b", Name: "web"}); err != nil {
		t.Errorf("the same name in another team: %v", err)
	}
	if err := boxes.Save(t.Context(), sqlite.SandboxRow{ID: "i3", Team: "a", Name: "web"}); !fault.Is(err, fault.Exists) {
		t.Errorf("the same name in the same team: %v, want %s", err, fault.Exists)
	}
}

// TestSandboxesOfBeforeAreTheDefaultTeams opens a file as the first release
// left it.
func TestSandboxesOfBeforeAreTheDefaultTeams(t *testing.T) {
	path := dbPath(t)
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.Exec(sqlite.Migration(0) + `; PRAGMA user_version = 1;
		INSERT INTO sandboxes VALUES ('i1', 'web', 'base', 'running', '', 1, 1, 1, 512, 8192, '', x'7b7d')`)
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := open(t, path).Sandboxes().List(t.Context())
	if err != nil || len(rows) != 1 || rows[0].Team != "default" || rows[0].Name != "web" {
		t.Errorf("rows = %+v, %v", rows, err)
	}
}
