package reclaim_test

import (
	"strings"
	"testing"

	"bulkhead/internal/reclaim"
)

func TestGauge(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		total, kept, unit int64
		free              []int64
		want              string
	}{
		"in percent": {
			100 << 30, 0, 1 << 30, []int64{100, 50, 16, 14, 16, 14, 17, 18, 13, 4, 6, 4, 8, 17, 3, 90},
			"low ok low critical low critical ok",
		},
		"a small pool, before machines are held": {3000 * mib, 0, mib, []int64{2000, 1025, 1023, 601, 599, 620, 700, 1050, 1200}, "low critical low ok"},
		"kept for machines":                      {100 << 30, 40 << 30, 1 << 30, []int64{60, 42, 41, 40, 39, 41, 42, 43, 60}, "low critical ok"},
	} {
		var g reclaim.Gauge
		var said []string
		for _, free := range tt.free {
			if level, changed := g.Read(free*tt.unit, tt.kept, tt.total); changed {
				said = append(said, level)
			}
		}
		if got := strings.Join(said, " "); got != tt.want {
			t.Errorf("%s: said is %s, want %s", name, got, tt.want)
		}
	}
}
