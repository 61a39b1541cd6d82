// Package budget counts what limits of a policy are about, and says when one is
// reached.
//
// Counts of bytes are kept over restarts of the daemon; a guest cannot make one
// start anew. budget must not know connections or how counts are stored.
package budget

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"bulkhead/internal/egress/policy"
)

// rateWindow is what a limit of new connections counts in.
const rateWindow = time.Minute

// Scope is what a limit is for: the sandbox as a whole, or one rule.
type Scope struct {
	// Name is "" for the sandbox.
	Name   string
	Limits *policy.Limits
}

// Budgets is what one sandbox has taken. It is safe for concurrent use.
type Budgets struct {
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

// New returns budgets of which nothing is taken.
func New(clock func() time.Time) *Budgets {
	return &Budgets{clock: clock, tallies: map[string]*tally{}}
}

// of returns the tally of a scope, in the windows of now. There are as many as
// there have been rules with limits.
func (b *Budgets) of(s Scope) *tally {
	t, ok := b.tallies[s.Name]
	if !ok {
		t = &tally{}
		b.tallies[s.Name] = t
	}
	now := b.clock()
	if now.Sub(t.Since) >= s.Limits.Per {
		t.Since, t.Up, t.Down = now, 0, 0
	}
	if now.Sub(t.minute) >= rateWindow {
		t.minute, t.begun = now, 0
	}
	return t
}

// Admit counts a connection, which leave ends, unless a limit says no.
func (b *Budgets) Admit(scopes []Scope) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		t := b.of(s)
		switch l := s.Limits; {
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
			b.tallies[s.Name].open--
		}
	}, nil
}

// Spend counts bytes. It is an error, and nothing is counted, if they are more
// than a limit leaves.
func (b *Budgets) Spend(scopes []Scope, up, down int64) error {
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
		b.changed = b.changed || s.Limits.Per > 0
	}
	return nil
}

// over says which limit more bytes would break. No bytes break one that is
// used up.
func (t *tally) over(s Scope, up, down int64) error {
	exceeds := func(limit, used, more int64) bool {
		return limit > 0 && (used+more > limit || used >= limit && up+down == 0)
	}
	switch l := s.Limits; {
	case exceeds(l.UploadBytes, t.Up, up):
		return fmt.Errorf("%s may send %d bytes within %s, and has sent %d", s, l.UploadBytes, l.Per, t.Up)
	case exceeds(l.DownloadBytes, t.Down, down):
		return fmt.Errorf("%s may receive %d bytes within %s, and has received %d", s, l.DownloadBytes, l.Per, t.Down)
	}
	return nil
}

// String is the scope in an error.
func (s Scope) String() string {
	if s.Name == "" {
		return "the sandbox"
	}
	return "the rule for " + s.Name
}

// Left is what is left of a limit.
type Left struct {
	// Rule is "" for the sandbox as a whole.
	Rule   string
	Limits policy.Limits
	// Up and Down are the bytes taken since Since, Open the connections now.
	Up, Down int64
	Since    time.Time
	Open     int
}

// Read returns the state of the scopes.
func (b *Budgets) Read(scopes []Scope) (all []Left) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		t := b.of(s)
		all = append(all, Left{Rule: s.Name, Limits: *s.Limits, Up: t.Up, Down: t.Down, Since: t.Since, Open: t.open})
	}
	return all
}

// Keep returns what is to be kept, nil if nothing has changed since it was
// called before.
func (b *Budgets) Keep() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed {
		return nil, nil
	}
	b.changed = false
	return json.Marshal(b.tallies)
}

// Restore reads what Keep returned.
func (b *Budgets) Restore(doc []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return json.Unmarshal(doc, &b.tallies)
}
