package reclaim

// Gauge tells when the pool runs low, before anything fails for it. The zero
// one is ready.
type Gauge struct{ level string }

// The levels of a pool, and the shares of it in percent that are free below
// them. One that has run low is so until there is clearly more again.
const (
	plenty, low, critical        = "", "low", "critical"
	lowBelow, criticalBelow, out = 15, 5, 3
	// lowBytes and criticalBytes are for small pools: machines are held in bytes
	// (package room), and this is to be told before. What is kept for machines
	// counts as gone: snapshots are refused without it.
	lowBytes, criticalBytes = 1 << 30, 600 << 20
)

// Plenty is what is told of a pool that has run low and does not any more.
const Plenty = "ok"

// Read returns the level if it has changed: "low", "critical", or Plenty. kept is
// the part of free that is kept for machines.
func (g *Gauge) Read(free, kept, total int64) (level string, changed bool) {
	percent := total / 100
	criticalAt, lowAt := max(criticalBelow*percent, criticalBytes, kept), max(lowBelow*percent, lowBytes, kept+lowBytes)
	now := g.level
	switch {
	case free < criticalAt:
		now = critical
	case free < lowAt && (g.level != critical || free >= criticalAt+out*percent):
		now = low
	case free >= lowAt+out*percent:
		now = plenty
	}
	if now == g.level {
		return "", false
	}
	g.level = now
	if now == plenty {
		return Plenty, true
	}
	return now, true
}
