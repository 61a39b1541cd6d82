// Package egress is the perimeter of every sandbox: what its guest may talk
// to, by name, decided outside of it.
//
//	guest ──DNS──► names    answers with a stand-in address for allowed names
//	guest ──TCP──► proxy    takes the name from the stand-in, asks the policy,
//	                        checks what the bytes say of themselves, and dials
//	                        the real host from here
//
// Each sandbox has a gate: its policy, its table of stand-ins and what it has
// used, kept in a folder of its own; and, while its machine runs, the link of
// package network, whose sockets the gate serves. The policy may change at any
// time. A sandbox that is removed is forgotten.
//
// egress must not know VMMs or records. A Perimeter is safe for concurrent
// use.
package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
	"bulkhead/internal/fault"
	"bulkhead/internal/network"
)

// Config says what a perimeter is made from.
type Config struct {
	// Dir holds one folder per sandbox.
	Dir string
	// LinkPath says where the network of a sandbox is pinned.
	LinkPath func(id string) string
	// Default is the policy of a new sandbox.
	Default *policy.Policy
	// AskLimit is how long a connection waits for the operator.
	AskLimit time.Duration
	// Descriptors is how many the connections of all sandboxes may take together.
	Descriptors int
	// Out is the way out of the host.
	Out Out
	// Event records a decision. It may be slow.
	Event func(ctx context.Context, kind, id string, fields map[string]string)
	// Tell gives a guest the list of its own denials, a JSON document. It may
	// be slow and may fail.
	Tell func(ctx context.Context, id string, denials []byte) error
	// Secret returns the value of a secret; fault.NotFound if there is none.
	Secret func(name string) (string, error)
	// Entrust gives a guest that runs what it needs to use secrets.
	Entrust func(ctx context.Context, id string, t binding.Trust) error
	// Inside answers a machine that asks something of its own sandbox: conn
	// speaks HTTP, may says what is allowed. It ends when conn is closed.
	Inside func(ctx context.Context, id string, may func(what string) bool, conn net.Conn)
	// Contact is called before a machine talks to a destination for the first
	// time since the daemon was started. The connection waits for it.
	Contact func(ctx context.Context, id, destination string)
	// Roots are what hosts that secrets go to are verified by; nil is what this
	// host trusts.
	Roots *x509.CertPool
	Clock func() time.Time
	Log   *slog.Logger
}

// Out is the way out of the host, for what was allowed.
type Out interface {
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// InsideName is the name under which a machine finds its own sandbox, on port
// 80. Nothing with this name is ever resolved (.internal is for private use:
// ICANN, 2024).
const InsideName = "bulkhead.internal"

// Perimeter is the gates of all sandboxes.
type Perimeter struct {
	cfg  Config
	room *proxy.Room

	mu    sync.Mutex
	gates map[string]*gate // guarded by mu
}

// New returns a perimeter. It starts nothing.
func New(cfg Config) *Perimeter {
	return &Perimeter{cfg: cfg, room: proxy.NewRoom(cfg.Descriptors), gates: map[string]*gate{}}
}

// gate returns the gate of a sandbox. One that has nothing here, or not any more,
// has one with the default policy of which nothing stays. id has been checked by
// the pool: it is no path.
func (p *Perimeter) gate(id string) (*gate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known(id)
}

// make is gate for a sandbox that is to have one.
func (p *Perimeter) make(id string) (*gate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.MkdirAll(p.dir(id), 0o700); err != nil {
		return nil, fmt.Errorf("egress of %s: %w", id, err)
	}
	return p.known(id)
}

// known returns the gate of a sandbox, and remembers it if there is anything to
// it. The caller holds mu.
func (p *Perimeter) known(id string) (*gate, error) {
	if g, ok := p.gates[id]; ok {
		return g, nil
	}
	g, err := p.load(id)
	if err != nil {
		return nil, fmt.Errorf("egress of %s: %w", id, err)
	}
	if _, err := os.Stat(p.dir(id)); err == nil {
		p.gates[id] = g
	}
	return g, nil
}

// Open makes the network of a machine that is about to start, and serves it
// until Close of the link. The machine's tap belongs to the link.
func (p *Perimeter) Open(ctx context.Context, id string) (*Link, error) {
	g, err := p.make(id)
	if err != nil {
		return nil, err
	}
	return g.open(ctx)
}

// Attach serves the network of a machine that an earlier daemon started. It is
// fs.ErrNotExist if there is none.
func (p *Perimeter) Attach(ctx context.Context, id string) (*Link, error) {
	g, err := p.make(id)
	if err != nil {
		return nil, err
	}
	return g.attach(ctx)
}

// Isolate has a machine that is about to be made talk to nobody.
func (p *Perimeter) Isolate(_ context.Context, id string) error {
	g, err := p.make(id)
	if err != nil {
		return err
	}
	return g.keepPolicy(&policy.Policy{Default: policy.Deny, Inside: []string{}})
}

// Inherit gives a sandbox that is about to be made the policy of another, and
// the stand-ins that its guest may remember.
func (p *Perimeter) Inherit(_ context.Context, from, to string) error {
	source, err := p.gate(from)
	if err != nil {
		return err
	}
	g, err := p.make(to)
	if err != nil {
		return err
	}
	known, err := source.table.MarshalJSON()
	if err == nil {
		err = g.table.UnmarshalJSON(known)
	}
	if err != nil {
		return fmt.Errorf("copy stand-ins of %s: %w", from, err)
	}
	g.keepNames()
	return g.keepPolicy(source.policy.Load())
}

// Renew makes void what the guest of a sandbox has of secrets: it is about to be
// an earlier one.
func (p *Perimeter) Renew(_ context.Context, id string) error {
	g, err := p.gate(id)
	if err != nil {
		return err
	}
	return g.bound.Renew()
}

// Unlink ends the network of a machine that does not run any more, whoever made
// it. Finding nothing is no error.
func (p *Perimeter) Unlink(_ context.Context, id string) error {
	p.mu.Lock()
	g := p.gates[id]
	p.mu.Unlock()
	var err error
	if g != nil {
		err = g.close()
	}
	return errors.Join(err, removeLink(p.cfg.LinkPath(id)))
}

// Forget removes all that a sandbox has here, its network included. Finding
// nothing is no error.
func (p *Perimeter) Forget(ctx context.Context, id string) error {
	err := p.Unlink(ctx, id)
	p.mu.Lock()
	delete(p.gates, id)
	p.mu.Unlock()
	return errors.Join(err, os.RemoveAll(p.dir(id)))
}

func (p *Perimeter) dir(id string) string { return filepath.Join(p.cfg.Dir, id) }

// Policy returns the policy in force.
func (p *Perimeter) Policy(id string) (*policy.Policy, error) {
	g, err := p.gate(id)
	if err != nil {
		return nil, err
	}
	return g.policy.Load(), nil
}

// SetPolicy puts a policy in force at once, and closes the connections that
// it forbids.
func (p *Perimeter) SetPolicy(ctx context.Context, id string, to *policy.Policy) error {
	return p.ChangePolicy(ctx, id, func(*policy.Policy) (*policy.Policy, error) { return to, nil })
}

// ChangePolicy is SetPolicy with what change makes of the policy in force. Those
// who change it at the same time do so one after the other. A secret that the
// policy names already may be missing, and so may one that is removed later.
func (p *Perimeter) ChangePolicy(ctx context.Context, id string, change func(*policy.Policy) (*policy.Policy, error)) error {
	g, err := p.make(id)
	if err != nil {
		return err
	}
	to, err := g.change(change)
	if err != nil {
		return err
	}
	p.cfg.Event(ctx, "egress.policy", id, map[string]string{"default": string(to.Default)})
	g.settle(ctx)
	return g.entrust(ctx)
}

// Test says what would happen to a connection.
func (p *Perimeter) Test(id string, to policy.Destination) (policy.Verdict, error) {
	g, err := p.gate(id)
	if err != nil {
		return policy.Verdict{}, err
	}
	v := g.policy.Load().Decide(to)
	if words, ok := g.desk.approves(proxy.Destination(to).String()); ok && v.Action == policy.Ask {
		v.Action, v.Rule = policy.Allow, v.Rule+", "+words
	}
	return v, nil
}

// State returns what became of a policy.
func (p *Perimeter) State(id string) (State, error) {
	g, err := p.gate(id)
	if err != nil {
		return State{}, err
	}
	return g.state()
}

// Survey returns what the kernel says of a sandbox's network; nil while it has
// none.
func (p *Perimeter) Survey(id string) (*network.Survey, error) {
	g, err := p.gate(id)
	if err != nil {
		return nil, err
	}
	l := g.current()
	if l == nil {
		return nil, nil
	}
	s, err := l.net.Survey()
	return &s, err
}

// Moved is how many bytes a sandbox has sent and received since the daemon was
// started.
func (p *Perimeter) Moved(id string) (int64, error) {
	g, err := p.gate(id)
	if err != nil {
		return 0, err
	}
	return g.ledger.Total(), nil
}

// Dial connects to a port of a running sandbox's guest.
func (p *Perimeter) Dial(ctx context.Context, id string, port uint16) (net.Conn, error) {
	g, err := p.gate(id)
	if err != nil {
		return nil, err
	}
	l := g.current()
	if l == nil {
		return nil, fault.New(fault.WrongState, "sandbox %s has no network: it does not run", id)
	}
	return l.net.Dial(ctx, port)
}

// exists reports whether err is anything but that something does not exist.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
