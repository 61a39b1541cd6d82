package egress

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/fault"
)

// maxQuestions bounds what a guest can ask at once.
const maxQuestions = 50

// Question is a destination that waits for the operator.
type Question struct {
	Destination string
	Since       time.Time
	// Waiting is how many connections wait for it.
	Waiting int
}

// Answer is what the operator says to one.
type Answer struct {
	Allow bool
	// For is how long an approval counts; 0 is for those who wait now.
	For time.Duration
}

// desk is where the questions of one sandbox wait. It is safe for concurrent
// use.
type desk struct {
	clock func() time.Time
	// limit is how long a connection waits. No answer is a refusal.
	limit time.Duration

	mu    sync.Mutex
	asked map[string]*asked // by destination; guarded by mu
	// approved holds until when; guarded by mu.
	approved map[string]time.Time
}

type asked struct {
	Question
	answer   Answer
	answered chan struct{} // closed with the answer
}

func newDesk(clock func() time.Time, limit time.Duration) *desk {
	return &desk{clock: clock, limit: limit, asked: map[string]*asked{}, approved: map[string]time.Time{}}
}

// ask waits for an answer about a destination. tell is called for the first
// who asks. The words say what came of it.
func (d *desk) ask(ctx context.Context, destination string, tell func()) (allow bool, words string) {
	d.mu.Lock()
	if until, ok := d.approved[destination]; ok && d.clock().Before(until) {
		d.mu.Unlock()
		return true, "approved until " + until.UTC().Format(time.DateTime)
	}
	q, ok := d.asked[destination]
	if !ok {
		if len(d.asked) >= maxQuestions {
			d.mu.Unlock()
			return false, "too many questions wait already"
		}
		q = &asked{Question: Question{Destination: destination, Since: d.clock()}, answered: make(chan struct{})}
		d.asked[destination] = q
	}
	q.Waiting++
	d.mu.Unlock()
	if !ok {
		tell()
	}
	defer d.leave(q)
	limit := time.NewTimer(d.limit)
	defer limit.Stop()
	select {
	case <-q.answered:
		if q.answer.Allow {
			return true, "approved by the operator"
		}
		return false, "rejected by the operator"
	case <-limit.C:
		return false, fmt.Sprintf("the operator did not answer within %s", d.limit)
	case <-ctx.Done():
		return false, "given up"
	}
}

func (d *desk) leave(q *asked) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.Waiting--; q.Waiting == 0 && d.asked[q.Destination] == q {
		delete(d.asked, q.Destination)
	}
}

// answer answers those who wait for a destination. It is fault.NotFound if
// nobody does.
func (d *desk) answer(destination string, a Answer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, ok := d.asked[destination]
	if !ok {
		return fault.New(fault.NotFound, "nobody waits for %s", destination).Hint("bulkhead egress pending lists who does")
	}
	delete(d.asked, destination)
	q.answer = a
	close(q.answered)
	if a.Allow && a.For > 0 {
		d.approved[destination] = d.clock().Add(a.For)
	}
	return nil
}

// questions lists what waits, the oldest first.
func (d *desk) questions() (all []Question) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.asked {
		all = append(all, q.Question)
	}
	slices.SortFunc(all, func(a, b Question) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	return all
}

// Pending lists the questions of a sandbox, the oldest first.
func (p *Perimeter) Pending(id string) ([]Question, error) {
	g, err := p.gate(id)
	if err != nil {
		return nil, err
	}
	return g.desk.questions(), nil
}

// Answer answers a question of a sandbox. It is fault.NotFound if nobody waits
// for that destination.
func (p *Perimeter) Answer(ctx context.Context, id, destination string, a Answer) error {
	g, err := p.gate(id)
	if err != nil {
		return err
	}
	if err := g.desk.answer(destination, a); err != nil {
		return err
	}
	p.cfg.Event(ctx, "egress.answered", id, map[string]string{
		"destination": destination, "allow": fmt.Sprint(a.Allow), "for": a.For.String(),
	})
	return nil
}
