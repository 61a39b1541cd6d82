package egress

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// keptDenials and keptUses bound what a guest can make us remember.
	keptDenials = 100
	keptUses    = 1000
)

// maxEvents is how many events a guest can cause in an hour.
const maxEvents = 1000

// meter lets so many pass in an hour. It is safe for concurrent use.
type meter struct {
	mu     sync.Mutex
	since  time.Time // guarded by mu
	passed int       // guarded by mu
	left   int       // guarded by mu; that did not pass
}

// pass reports whether one more passes, and how many before it did not.
func (m *meter) pass(now time.Time) (ok bool, left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.since) >= time.Hour {
		m.since, m.passed = now, 0
	}
	if m.passed >= maxEvents {
		m.left++
		return false, 0
	}
	m.passed++
	left, m.left = m.left, 0
	return true, left
}

// Use is what one destination has taken.
type Use struct {
	Destination       string
	Connections, Open int
	Up, Down          int64
}

// Denial is something that was refused, or several of the same in a row.
type Denial struct {
	Time                      time.Time
	Destination, Rule, Reason string
	Count                     int
}

// ledger is what a gate remembers. It is safe for concurrent use.
type ledger struct {
	clock func() time.Time

	mu      sync.Mutex
	uses    map[string]*Use // guarded by mu
	denials []Denial        // the latest last; guarded by mu
}

func newLedger(clock func() time.Time) *ledger {
	return &ledger{clock: clock, uses: map[string]*Use{}}
}

// use returns the entry of a destination. Those beyond the bound share one.
func (l *ledger) use(destination string) *Use {
	u, ok := l.uses[destination]
	if !ok && len(l.uses) >= keptUses {
		destination = "others"
		u, ok = l.uses[destination]
	}
	if !ok {
		u = &Use{Destination: destination}
		l.uses[destination] = u
	}
	return u
}

func (l *ledger) opened(destination string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.use(destination)
	u.Connections++
	u.Open++
}

func (l *ledger) closed(destination string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.use(destination).Open--
}

// moved counts bytes.
func (l *ledger) moved(destination string, up, down int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.use(destination)
	u.Up += up
	u.Down += down
}

// denied remembers a refusal, and reports whether it is another than the last
// few: programs try again and again.
func (l *ledger) denied(destination, rule, reason string) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.denials, func(d Denial) bool {
		return d.Destination == destination && d.Rule == rule && d.Reason == reason
	})
	d := Denial{Destination: destination, Rule: rule, Reason: reason}
	if i >= 0 {
		d = l.denials[i]
		l.denials = slices.Delete(l.denials, i, i+1)
	}
	d.Time = l.clock()
	d.Count++
	l.denials = append(l.denials, d)
	if n := len(l.denials) - keptDenials; n > 0 {
		l.denials = slices.Delete(l.denials, 0, n)
	}
	return i < 0
}

// read returns copies, uses by name and denials with the latest first.
func (l *ledger) read() ([]Use, []Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	uses := make([]Use, 0, len(l.uses))
	for _, u := range slices.SortedFunc(maps.Values(l.uses), func(a, b *Use) int {
		return cmp.Compare(a.Destination, b.Destination)
	}) {
		uses = append(uses, *u)
	}
	denials := slices.Clone(l.denials)
	slices.Reverse(denials)
	return uses, denials
}
