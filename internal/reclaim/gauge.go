package reclaim

// Gauge tells when the pool runs low, before anything fails for it. The zero
// one is ready.
type Gauge struct{ level string }

// The levels of a pool, and the shares of it in percent that are free below
// them. One that has run low is so until there is clearly more again.
const (
	plenty, low, critical        = "", "low", "critical"
	lowBelow, criticalBelow, out = 15, 5, 3
)

// Read returns the level if it has changed: "low", "critical", or "ok".
func (g *Gauge) Read(free, total int64) (level string, changed bool) {
	share := float64(free) / float64(max(total, 1)) * 100
	now := g.level
	switch {
	case share < criticalBelow:
		now = critical
	case share < lowBelow && (g.level != critical || share >= criticalBelow+out):
		now = low
	case share >= lowBelow+out:
		now = plenty
	}
	if now == g.level {
		return "", false
	}
	g.level = now
	if now == plenty {
		return "ok", true
	}
	return now, true
}
