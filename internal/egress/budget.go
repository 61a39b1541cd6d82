package egress

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"bulkhead/internal/egress/policy"
)

// rateWindow is what a limit of new connections counts in.
const rateWindow = time.Minute

// scope is what a limit is for: the sandbox as a whole, or one rule.
type scope struct {
	// name is "" for the sandbox.
	name   string
	limits *policy.Limits
}

// budgets counts what limits are about. Counts of bytes are kept over restarts
// of the daemon; a guest cannot make one start anew. It is safe for concurrent
// use.
type budgets struct {
	clock func() time.Time

	mu      sync.Mutex
	tallies map[string]*tally // by scope; guarded by mu
	changed bool              // since they were kept; guarded by mu
}

// tally is what one scope has taken.
type tally struct {
	// Since is when the window of the byte limits began.
	Since time.Time `json:"since"`
	Up    int64     `json:"up"`
	Down  int64     `json:"down"`

	open   int
	minute time.Time // when the window of the rate began
	begun  int
}

func newBudgets(clock func() time.Time) *budgets {
	return &budgets{clock: clock, tallies: map[string]*tally{}}
}

// of returns the tally of a scope, in the windows of now. There are as many as
// there have been rules with limits.
func (b *budgets) of(s scope) *tally {
	t, ok := b.tallies[s.name]
	if !ok {
		t = &tally{}
		b.tallies[s.name] = t
	}
	now := b.clock()
	if now.Sub(t.Since) >= s.limits.Per {
		t.Since, t.Up, t.Down = now, 0, 0
	}
	if now.Sub(t.minute) >= rateWindow {
		t.minute, t.begun = now, 0
	}
	return t
}

// admit counts a connection, which leave ends, unless a limit says no.
func (b *budgets) admit(scopes []scope) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		t := b.of(s)
		switch l := s.limits; {
		case l.Connections > 0 && t.open >= l.Connections:
			return nil, fmt.Errorf("%d connections are open already, the limit of %s", t.open, s)
		case l.Rate > 0 && t.begun >= l.Rate:
			return nil, fmt.Errorf("%d connections have begun within a minute, the limit of %s", t.begun, s)
		}
		if err := t.over(s, 0, 0); err != nil {
			return nil, err
		}
	}
	for _, s := range scopes {
		t := b.of(s)
		t.open++
		t.begun++
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range scopes {
			b.tallies[s.name].open--
		}
	}, nil
}

// spend counts bytes. It is an error, and nothing is counted, if they are more
// than a limit leaves.
func (b *budgets) spend(scopes []scope, up, down int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		if err := b.of(s).over(s, up, down); err != nil {
			return err
		}
	}
	for _, s := range scopes {
		t := b.of(s)
		t.Up += up
		t.Down += down
		b.changed = b.changed || s.limits.Per > 0
	}
	return nil
}

// over says which limit more bytes would break. No bytes break one that is
// used up.
func (t *tally) over(s scope, up, down int64) error {
	exceeds := func(limit, used, more int64) bool {
		return limit > 0 && (used+more > limit || used >= limit && up+down == 0)
	}
	switch l := s.limits; {
	case exceeds(l.UploadBytes, t.Up, up):
		return fmt.Errorf("%s may send %d bytes within %s, and has sent %d", s, l.UploadBytes, l.Per, t.Up)
	case exceeds(l.DownloadBytes, t.Down, down):
		return fmt.Errorf("%s may receive %d bytes within %s, and has received %d", s, l.DownloadBytes, l.Per, t.Down)
	}
	return nil
}

// String is the scope in an error.
func (s scope) String() string {
	if s.name == "" {
		return "the sandbox"
	}
	return "the rule for " + s.name
}

// Budget is what is left of a limit.
type Budget struct {
	// Rule is "" for the sandbox as a whole.
	Rule   string
	Limits policy.Limits
	// Up and Down are the bytes taken since Since, Open the connections now.
	Up, Down int64
	Since    time.Time
	Open     int
}

// read returns the state of the scopes.
func (b *budgets) read(scopes []scope) (all []Budget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		t := b.of(s)
		all = append(all, Budget{Rule: s.name, Limits: *s.limits, Up: t.Up, Down: t.Down, Since: t.Since, Open: t.open})
	}
	return all
}

// marshal returns what is to be kept, nil if nothing has changed since it was
// called before.
func (b *budgets) marshal() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed {
		return nil, nil
	}
	b.changed = false
	return json.Marshal(b.tallies)
}

func (b *budgets) unmarshal(doc []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return json.Unmarshal(doc, &b.tallies)
}
