package adversary_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"bulkhead/internal/attack"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon"
	"bulkhead/test/leak"
)

// Whoever takes over the VMM process holds nothing: the battery that operators
// run, with the cages of the product.
func TestWalls(t *testing.T) {
	leak.Check(t)
	cfg, err := config.Load(config.Source{Override: map[string]string{"state_dir": t.TempDir(), "accel": "tcg"}})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "attempt\texpected\tgot\twithout the filter\t")
	d := daemon.Daemon{Config: cfg, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
	tried := 0
	err = d.Attack(t.Context(), nil, func(f attack.Finding) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Attempt, f.Expected, f.Got, f.Unfiltered, f.Useless)
		if !f.Holds {
			t.Errorf("%s: got %s, want %s", f.Attempt, f.Got, f.Expected)
		}
		if f.Useless == "" {
			tried++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if tried < 40 {
		t.Errorf("only %d attempts work on this host even without the jail", tried)
	}
}
