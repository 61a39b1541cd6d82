package egress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/inject"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
	"bulkhead/internal/fault"
)

// maxTerminated is how many connections of a sandbox may have their TLS end
// here at once: each has two states of TLS and buffers in the daemon.
const maxTerminated = 100

// entrustLimit bounds how long a guest may take to install what it is given.
const entrustLimit = 30 * time.Second

// checkSecrets says which secret of a policy there is not. One that the policy in
// force names as well was there once: what else changes does not wait for it.
func (g *gate) checkSecrets(p *policy.Policy) error {
	named := map[string]bool{}
	for _, r := range g.policy.Load().Rules {
		for _, s := range r.Secrets {
			named[s.Name] = true
		}
	}
	for _, r := range p.Rules {
		for _, s := range r.Secrets {
			if named[s.Name] {
				continue
			}
			if _, err := g.p.cfg.Secret(s.Name); err != nil {
				return fault.New(fault.Invalid, "rule for %s: %w", r.Name, err)
			}
		}
	}
	return nil
}

// trust returns what the guest needs for the policy in force, and takes it as
// given.
func (g *gate) trust() (t binding.Trust, fresh bool, err error) {
	if t, err = g.bound.Trust(g.policy.Load()); err != nil {
		return t, false, fmt.Errorf("trust of %s: %w", g.id, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh = !reflect.DeepEqual(t, g.given)
	g.given = t
	return t, fresh, nil
}

// entrust gives a guest that runs what it does not have yet.
func (g *gate) entrust(ctx context.Context) error {
	g.entrusting.Lock()
	defer g.entrusting.Unlock()
	if g.current() == nil {
		return nil // it gets that when it starts
	}
	t, fresh, err := g.trust()
	if err != nil || !fresh {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, entrustLimit)
	defer cancel()
	if err := g.p.cfg.Entrust(ctx, g.id, t); err != nil {
		g.mu.Lock()
		g.given = binding.Trust{Link: "unknown"} // so that the next try is one
		g.mu.Unlock()
		return fault.New(fault.Unavailable, "the policy is in force, but the guest is not given its placeholders and certificate: %w", err).
			Hint("set the policy again once the sandbox answers")
	}
	return nil
}

// terminate returns what carries the requests to a destination that has
// secrets.
func (g *gate) terminate(to proxy.Destination) proxy.Terminator {
	if to.Name == InsideName {
		return func(ctx context.Context, guest net.Conn, _ func(context.Context) (net.Conn, error)) error {
			g.p.cfg.Inside(ctx, g.id, func(what string) bool { return g.policy.Load().MayAsk(what) }, guest)
			return nil
		}
	}
	if to.Port != 443 || len(g.verdict(to).Secrets) == 0 {
		return nil
	}
	return func(ctx context.Context, guest net.Conn, dial func(context.Context) (net.Conn, error)) error {
		defer g.terminated.Add(-1)
		if g.terminated.Add(1) > maxTerminated {
			return fmt.Errorf("%d connections to names with secrets are open already", maxTerminated)
		}
		var once sync.Map // what was told of this connection
		x := &inject.Exchange{
			Host:        to.Name,
			Certificate: func() (*tls.Certificate, error) { return g.bound.Certificate(to.Name) },
			Secrets:     func() ([]inject.Secret, error) { return g.secrets(to) },
			Dial:        dial, Config: &tls.Config{RootCAs: g.p.cfg.Roots},
			Notice: func(n inject.Notice) {
				if _, told := once.LoadOrStore(n, true); !told {
					g.notice(to, n)
				}
			},
		}
		return x.Serve(ctx, guest)
	}
}

// secrets returns those that requests to a destination use now.
func (g *gate) secrets(to proxy.Destination) (all []inject.Secret, err error) {
	for _, bound := range g.verdict(to).Secrets {
		s := inject.Secret{Name: bound.Name}
		if s.Value, err = g.p.cfg.Secret(bound.Name); err != nil {
			return nil, err
		}
		if bound.Env != "" {
			s.Placeholder = g.bound.Placeholder(bound.Name)
		} else {
			s.Header, s.Format = bound.Split()
		}
		all = append(all, s)
	}
	return all, nil
}

// notice records what became of a secret.
func (g *gate) notice(to proxy.Destination, n inject.Notice) {
	switch n.Kind {
	case "stale":
		g.deny(to.String(), g.verdict(to).Rule, "a placeholder that does not count here, or not any more")
	case "refused":
		g.deny(to.String(), g.verdict(to).Rule, "a request for another host, or of a kind that is not passed on")
	case "missing":
		for _, s := range g.verdict(to).Secrets {
			if _, err := g.p.cfg.Secret(s.Name); err != nil {
				n.Secret = s.Name
			}
		}
		g.deny(to.String(), g.verdict(to).Rule, "its secret is not set")
	case "echoed":
		g.log.Warn("a host has sent a secret back; the guest got asterisks", "destination", to.String(), "secret", n.Secret)
	}
	g.event("secret."+n.Kind, map[string]string{"destination": to.String(), "secret": n.Secret})
}
