package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/budget"
	"bulkhead/internal/egress/learn"
	"bulkhead/internal/egress/ledger"
	"bulkhead/internal/egress/names"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
	"bulkhead/internal/network"
)

// gate is the perimeter of one sandbox.
type gate struct {
	p       *Perimeter
	id      string
	log     *slog.Logger
	ledger  *ledger.Ledger
	budgets *budget.Budgets
	meter   ledger.Meter
	desk    *desk
	learned learn.Recorder
	table   *names.Table
	policy  atomic.Pointer[policy.Policy]
	// news has a token when there are denials that the guest was not told of.
	news chan struct{}
	// bound is what the sandbox has of secrets; entrusting is held while the
	// guest is given it.
	bound      *binding.Binding
	entrusting sync.Mutex
	// terminated counts the connections whose TLS ends here.
	terminated atomic.Int64

	// changing is held while the policy is changed, writing while a file is
	// written. changing comes first.
	changing, writing sync.Mutex

	mu   sync.Mutex
	link *Link // guarded by mu; nil while no machine runs
	// given is what the guest has of it since this daemon was started; guarded
	// by mu.
	given binding.Trust
}

// load reads a gate from its folder. One that has none has the default policy.
func (p *Perimeter) load(id string) (*gate, error) {
	g := &gate{p: p, id: id, log: p.cfg.Log.With("sandbox", id), ledger: ledger.New(p.cfg.Clock), budgets: budget.New(p.cfg.Clock), desk: newDesk(p.cfg.Clock, p.cfg.AskLimit), table: names.NewTable(), news: make(chan struct{}, 1)}
	g.policy.Store(p.cfg.Default)
	switch doc, err := os.ReadFile(g.path(policyFile)); {
	case err == nil:
		kept, err := policy.Parse(doc)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", policyFile, err)
		}
		g.policy.Store(kept)
	case !absent(err):
		return nil, err
	}
	var err error
	if g.bound, err = binding.Load(g.path(bindingFile), p.cfg.Clock); err != nil {
		return nil, err
	}
	for file, read := range map[string]func([]byte) error{namesFile: g.table.UnmarshalJSON, budgetsFile: g.budgets.Restore, learnedFile: g.learned.Restore} {
		b, err := os.ReadFile(g.path(file))
		if err == nil {
			err = read(b)
		}
		if err != nil && !absent(err) {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return g, nil
}

func (g *gate) current() *Link {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.link
}

// open makes a link for a machine that is about to start. The one of the
// machine before is closed.
func (g *gate) open(ctx context.Context) (*Link, error) {
	if err := g.close(); err != nil {
		return nil, err
	}
	net, tap, err := network.Open(ctx, g.p.cfg.LinkPath(g.id))
	if err != nil {
		return nil, err
	}
	l := &Link{gate: g, net: net, tap: tap}
	if l.trust, _, err = g.trust(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := l.serve(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (g *gate) attach(ctx context.Context) (*Link, error) {
	net, err := network.Attach(g.p.cfg.LinkPath(g.id))
	if err != nil {
		return nil, err
	}
	l := &Link{gate: g, net: net}
	if err := l.serve(ctx); err != nil {
		return nil, errors.Join(err, net.Close()) // its machine goes on without
	}
	return l, nil
}

// close ends the link that there is.
func (g *gate) close() error {
	if l := g.current(); l != nil {
		return l.Close()
	}
	return nil
}

// decide says what is to become of a connection.
func (g *gate) decide(ctx context.Context, to proxy.Destination) proxy.Verdict {
	v := g.verdict(to)
	if v.Action != policy.Ask {
		if v.Action == policy.Allow && to.Name != InsideName {
			g.contact(ctx, to.String())
		}
		return proxy.Verdict{Allow: v.Action == policy.Allow, Rule: v.Rule}
	}
	allow, words := g.desk.ask(ctx, to.String(), func() {
		g.event("egress.asked", map[string]string{"destination": to.String(), "rule": v.Rule})
		g.log.WarnContext(ctx, "egress waits for an answer: bulkhead egress pending", "op", "egress")
	})
	if allow {
		g.contact(ctx, to.String())
	}
	return proxy.Verdict{Allow: allow, Rule: v.Rule + ", " + words}
}

// contact announces a destination that is new.
func (g *gate) contact(ctx context.Context, destination string) {
	if g.p.cfg.Contact != nil && !g.ledger.Knows(destination) {
		g.p.cfg.Contact(ctx, g.id, destination)
	}
}

func (g *gate) verdict(to proxy.Destination) policy.Verdict {
	if to.Name == InsideName {
		v := policy.Verdict{Action: policy.Deny, Rule: "only port 80 of " + InsideName + " is there", Index: -1}
		if to.Port == 80 {
			v = policy.Verdict{Action: policy.Allow, Rule: "inside", Index: -1}
		}
		return v
	}
	return g.policy.Load().Decide(policy.Destination(to))
}

// forbids says whether a connection that is open may not go on. One that was
// approved may.
func (g *gate) forbids(to proxy.Destination) bool { return g.verdict(to).Action == policy.Deny }

// mayResolve says whether a name is answered. About one that is to be asked
// for, the connection asks.
func (g *gate) mayResolve(name string) bool {
	return name == InsideName || g.policy.Load().MayResolve(name).Action != policy.Deny
}

// refusedName records a question that was not answered.
func (g *gate) refusedName(q names.Query) {
	if q.Name == "" {
		g.deny("the resolver", "questions for names", q.Reason)
		return
	}
	rule := g.policy.Load().MayResolve(q.Name).Rule
	g.learned.Note(learn.Seen{Name: q.Name})
	g.deny(q.Name, rule, q.Reason)
}

func (g *gate) deny(destination, rule, reason string) {
	defer func() {
		select {
		case g.news <- struct{}{}:
		default:
		}
	}()
	if count := g.ledger.Denied(destination, rule, reason); count > 0 {
		g.event("egress.denied", map[string]string{"count": strconv.Itoa(count), "destination": destination, "rule": rule, "reason": reason, "verdict": string(policy.Deny)})
	}
}

// record notes what became of a connection.
func (g *gate) record(c proxy.Connection) {
	if c.Dest.Name == InsideName && c.Verdict.Allow {
		return // what was asked is recorded by who answers
	}
	destination := c.Dest.String()
	switch {
	case c.Opened.IsZero():
		g.learned.Note(learn.Seen{Name: c.Dest.Name, Addr: literal(c.Dest), Port: c.Dest.Port, Allowed: c.Verdict.Allow})
		g.deny(destination, c.Verdict.Rule, c.Reason)
	case c.Closed.IsZero():
		g.learned.Note(g.seen(c))
		if !g.ledger.Knows(destination) { // it may be open for days until it is recorded as a whole
			g.event("egress.opened", decided(c))
		}
		g.ledger.Opened(destination)
	default:
		if c.Reason != "" {
			g.deny(destination, c.Verdict.Rule, c.Reason)
		}
		g.ledger.Closed(destination)
		fields := decided(c)
		fields["reason"] = c.Reason
		fields["up"], fields["down"] = strconv.FormatInt(c.Up, 10), strconv.FormatInt(c.Down, 10)
		fields["duration"] = c.Closed.Sub(c.Opened).Round(time.Millisecond).String()
		g.event("egress.connection", fields)
	}
}

// decided is what events say of a connection that was allowed.
func decided(c proxy.Connection) map[string]string {
	return map[string]string{
		"destination": c.Dest.String(), "address": addressText(c.Addr), "rule": c.Verdict.Rule, "verdict": string(policy.Allow),
	}
}

// seen is a connection that begins.
func (g *gate) seen(c proxy.Connection) learn.Seen {
	s := learn.Seen{Name: c.Dest.Name, Addr: literal(c.Dest), Port: c.Dest.Port, Allowed: true}
	if _, forbidden := policy.Forbidden(c.Addr); forbidden {
		s.Addr = c.Addr // only a rule about addresses opened it
	}
	return s
}

// literal is the address of a destination without a name.
func literal(to proxy.Destination) netip.Addr {
	if to.Name != "" {
		return netip.Addr{}
	}
	return to.Addr
}

// limited lists the limits of the policy in force.
func (g *gate) limited() (all []budget.Scope) {
	p := g.policy.Load()
	all = withLimits(all, "", p.Limits)
	for _, r := range p.All() {
		all = withLimits(all, r.Budget(), r.Limits)
	}
	return all
}

// event records something that a guest does as often as it likes. Events are
// kept for good, so there are so many of a kind in an hour; how many more there
// were is recorded with the next.
func (g *gate) event(kind string, fields map[string]string) {
	record, left := g.meter.Pass(kind, g.p.cfg.Clock())
	if !record {
		return
	}
	if left > 0 {
		fields["unrecorded"] = strconv.Itoa(left)
	}
	g.p.cfg.Event(context.Background(), kind, g.id, fields)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// State is what became of a policy.
type State struct {
	Dropped map[string]uint64
	Uses    []ledger.Use
	Denials []ledger.Denial
	Budgets []budget.Left
	// Approved are destinations that the operator was asked about, and until when
	// they may be talked to.
	Approved []Approval
}

func (g *gate) state() (s State, err error) {
	s.Uses, s.Denials = g.ledger.Read()
	s.Budgets, s.Approved = g.budgets.Read(g.limited()), g.desk.approvals()
	if l := g.current(); l != nil {
		s.Dropped, err = l.net.Dropped()
	}
	return s, err
}
