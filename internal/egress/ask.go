package egress

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/egress/policy"
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
	words    string        // who has answered
	answered chan struct{} // closed with the answer
}

// Approval is a destination that may be talked to until a time, because the
// operator has said so.
type Approval struct {
	Destination string
	Until       time.Time
}

func newDesk(clock func() time.Time, limit time.Duration) *desk {
	return &desk{clock: clock, limit: limit, asked: map[string]*asked{}, approved: map[string]time.Time{}}
}

// ask waits for an answer about a destination. tell is called for the first
// who asks. The words say what came of it.
func (d *desk) ask(ctx context.Context, destination string, tell func()) (allow bool, words string) {
	if words, ok := d.approves(destination); ok {
		return true, words
	}
	d.mu.Lock()
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
		return q.answer.Allow, q.words
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
// nobody does, and there is no approval to be taken back either.
func (d *desk) answer(destination string, a Answer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, waits := d.asked[destination]
	_, approved := d.approved[destination]
	if !waits && (a.Allow || !approved) {
		return fault.New(fault.NotFound, "nobody waits for %s", destination).Hint("bulkhead egress pending lists who does")
	}
	if !a.Allow {
		delete(d.approved, destination)
	} else if a.For > 0 {
		d.approved[destination] = d.clock().Add(a.For)
	}
	if waits {
		words := "rejected by the operator"
		if a.Allow {
			words = "approved by the operator"
		}
		d.close(q, a, words)
	}
	return nil
}

// close answers a question. The caller holds mu.
func (d *desk) close(q *asked, a Answer, words string) {
	delete(d.asked, q.Destination)
	q.answer, q.words = a, words
	close(q.answered)
}

// settle answers the questions that need no answer any more, and returns which.
func (d *desk) settle(allowed func(destination string) bool) (settled []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for destination, q := range d.asked {
		if allowed(destination) {
			d.close(q, Answer{Allow: true}, "allowed by the policy as it is now")
			settled = append(settled, destination)
		}
	}
	return settled
}

// approves reports whether the operator has approved of a destination for a time
// that is not over, and says so.
func (d *desk) approves(destination string) (words string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.approved[destination]
	return "approved until " + until.UTC().Format(time.DateTime), ok && d.clock().Before(until)
}

// approvals lists what is approved of now, in order.
func (d *desk) approvals() (all []Approval) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.approved, func(_ string, until time.Time) bool { return !d.clock().Before(until) })
	for _, destination := range slices.Sorted(maps.Keys(d.approved)) {
		all = append(all, Approval{destination, d.approved[destination]})
	}
	return all
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

// Answer answers a question of a sandbox, or takes an approval back. It is
// fault.NotFound if nobody waits for that destination and nothing is approved.
func (p *Perimeter) Answer(ctx context.Context, id, destination string, a Answer) error {
	g, err := p.gate(id)
	if err != nil {
		return err
	}
	if err := g.desk.answer(destination, a); err != nil {
		return err
	}
	g.answered(ctx, destination, a)
	return nil
}

func (g *gate) answered(ctx context.Context, destination string, a Answer) {
	g.p.cfg.Event(ctx, "egress.answered", g.id, map[string]string{
		"destination": destination, "allow": fmt.Sprint(a.Allow), "for": a.For.String(),
	})
}

// settle lets those go on who wait for what the policy allows by now.
func (g *gate) settle(ctx context.Context) {
	settled := g.desk.settle(func(destination string) bool {
		to, err := policy.ParseDestination(destination)
		return err == nil && g.policy.Load().Decide(to).Action == policy.Allow
	})
	for _, destination := range settled {
		g.answered(ctx, destination, Answer{Allow: true})
	}
}
