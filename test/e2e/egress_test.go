package e2e_test

import (
	"strings"
	"testing"

	"bulkhead/client"
)

// An ordinary client installs an ordinary package with the default policy.
func TestAptInstalls(t *testing.T) {
	b := host(t).Create("apt")
	b.Sh("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends tree")
	if got := b.Sh("tree --version"); !strings.Contains(got, "tree v") {
		t.Errorf("tree says %q", got)
	}
	var e client.Egress
	host(t).JSON(&e, "egress", "show", b.Name)
	var down int64
	for _, u := range e.Used {
		down += u.DownBytes
	}
	if down < 1<<20 { // the lists alone are more
		t.Errorf("%d bytes were counted: %+v", down, e.Used)
	}
}
