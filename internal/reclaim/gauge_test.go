package reclaim_test

import (
	"strings"
	"testing"

	"bulkhead/internal/reclaim"
)

func TestGauge(t *testing.T) {
	var g reclaim.Gauge
	var said []string
	for _, free := range []int64{100, 50, 16, 14, 16, 14, 17, 18, 13, 4, 6, 4, 8, 17, 3, 90} {
		if level, changed := g.Read(free, 100); changed {
			said = append(said, level)
		}
	}
	if got, want := strings.Join(said, " "), "low ok low critical low critical ok"; got != want {
		t.Errorf("said is %s, want %s", got, want)
	}
}
