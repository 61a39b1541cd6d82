// Package ledger remembers what a guest has used and what it was refused, and
// how much of that is worth an event. All of it is bounded: a guest decides how
// much there is.
package ledger

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

// maxEvents is how many events of a kind a guest can cause in an hour.
const maxEvents = 1000

// Meter lets so many of each kind pass in an hour: refusals, of which there can
// be any number, must not keep connections off the record. The zero value is
// ready. It is safe for concurrent use.
type Meter struct {
	mu    sync.Mutex
	kinds map[string]*tally // guarded by mu
}

// tally is of one kind.
type tally struct {
	since        time.Time
	passed, left int // left is how many did not pass
}

// Pass reports whether one more passes, and how many of its kind before it did
// not.
func (m *Meter) Pass(kind string, now time.Time) (ok bool, left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.kinds[kind]
	if !ok {
		if m.kinds == nil {
			m.kinds = map[string]*tally{}
		}
		t = &tally{}
		m.kinds[kind] = t
	}
	if now.Sub(t.since) >= time.Hour {
		t.since, t.passed = now, 0
	}
	if t.passed >= maxEvents {
		t.left++
		return false, 0
	}
	t.passed++
	left, t.left = t.left, 0
	return true, left
}

// Use is what one destination has taken.
type Use struct {
	Destination       string
	Connections, Open int
	Up, Down          int64
}

// Denial is something that was refused, once or several times.
type Denial struct {
	Time                      time.Time
	Destination, Rule, Reason string
	Count                     int
}

// denial is one that is remembered.
type denial struct {
	Denial
	told time.Time // when it was news
}

// newsAgain is how long the same refusal is no news: programs try again and
// again.
const newsAgain = time.Hour

// Ledger is what is remembered of one sandbox. It is safe for concurrent use.
type Ledger struct {
	clock func() time.Time

	mu      sync.Mutex
	uses    map[string]*Use // guarded by mu
	denials []denial        // the latest last; guarded by mu
}

// New returns an empty ledger.
func New(clock func() time.Time) *Ledger {
	return &Ledger{clock: clock, uses: map[string]*Use{}}
}

// use returns the entry of a destination. Those beyond the bound share one.
func (l *Ledger) use(destination string) *Use {
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

// Knows reports whether there was a connection to a destination. Those beyond
// the bound are known.
func (l *Ledger) Knows(destination string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.uses[destination]
	return ok || len(l.uses) >= keptUses
}

// Opened counts a connection.
func (l *Ledger) Opened(destination string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.use(destination)
	u.Connections++
	u.Open++
}

// Closed counts the end of a connection.
func (l *Ledger) Closed(destination string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.use(destination).Open--
}

// Moved counts bytes.
func (l *Ledger) Moved(destination string, up, down int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.use(destination)
	u.Up += up
	u.Down += down
}

// Total is how many bytes were moved, in both directions.
func (l *Ledger) Total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.uses {
		n += u.Up + u.Down
	}
	return n
}

// Denied remembers a refusal. It returns how often there was the same, 0 if that
// is no news.
func (l *Ledger) Denied(destination, rule, reason string) (news int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.denials, func(d denial) bool {
		return d.Destination == destination && d.Rule == rule && d.Reason == reason
	})
	d := denial{Denial: Denial{Destination: destination, Rule: rule, Reason: reason}}
	if i >= 0 {
		d = l.denials[i]
		l.denials = slices.Delete(l.denials, i, i+1)
	}
	d.Time = l.clock()
	d.Count++
	if d.Time.Sub(d.told) >= newsAgain {
		d.told, news = d.Time, d.Count
	}
	l.denials = append(l.denials, d)
	if n := len(l.denials) - keptDenials; n > 0 {
		l.denials = slices.Delete(l.denials, 0, n)
	}
	return news
}

// Read returns copies, uses by name and denials with the latest first.
func (l *Ledger) Read() ([]Use, []Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	uses := make([]Use, 0, len(l.uses))
	for _, u := range slices.SortedFunc(maps.Values(l.uses), func(a, b *Use) int {
		return cmp.Compare(a.Destination, b.Destination)
	}) {
		uses = append(uses, *u)
	}
	denials := make([]Denial, 0, len(l.denials))
	for _, d := range slices.Backward(l.denials) {
		denials = append(denials, d.Denial)
	}
	return uses, denials
}
