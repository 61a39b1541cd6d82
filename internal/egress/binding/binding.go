// Package binding is what one sandbox has of the secrets that its policy lets
// it use: an authority for the names that they are for, and placeholders.
//
// A placeholder stands for a secret in this sandbox and in this epoch. Renew
// begins another: what was copied out of the sandbox before a rollback is worth
// nothing after it. A sandbox whose policy has no secrets has nothing here.
//
// binding must not know values of secrets. A Binding is safe for concurrent
// use.
package binding

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/egress/authority"
	"bulkhead/internal/egress/inject"
	"bulkhead/internal/egress/policy"
)

// Trust is what a guest is given. Without a root it takes back what the guest
// has; the zero Trust is for one that has never had anything.
type Trust struct {
	// Root is the authority's certificate, PEM.
	Root []byte
	// Link is the name by which OpenSSL finds it.
	Link string
	// Env holds a placeholder for each variable.
	Env map[string]string
}

// Binding is that of one sandbox.
type Binding struct {
	path  string
	clock func() time.Time

	mu   sync.Mutex
	made *made // guarded by mu; nil until it is needed
}

// made is a binding that was needed.
type made struct {
	authority *authority.Authority
	seed      []byte
	epoch     uint64
}

// kept is a binding as it is on disk. Only the host's root may read it.
type kept struct {
	Authority json.RawMessage `json:"authority"`
	Seed      []byte          `json:"seed"`
	Epoch     uint64          `json:"epoch"`
}

// Load reads the binding at path, which need not exist.
func Load(path string, clock func() time.Time) (*Binding, error) {
	b := &Binding{path: path, clock: clock}
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	var k kept
	if err := json.Unmarshal(doc, &k); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	a, err := authority.Load(k.Authority, clock)
	if err != nil {
		return nil, fmt.Errorf("read %s: authority: %w", path, err)
	}
	b.made = &made{a, k.Seed, k.Epoch}
	return b, nil
}

// Trust returns what the guest needs for a policy.
func (b *Binding) Trust(p *policy.Policy) (Trust, error) {
	var names []string
	t := Trust{Env: map[string]string{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range p.Rules {
		if len(r.Secrets) == 0 {
			continue
		}
		if err := b.make(); err != nil {
			return Trust{}, err
		}
		names = append(names, r.Name)
		for _, s := range r.Secrets {
			if s.Env != "" {
				t.Env[s.Env] = b.made.placeholder(s.Name)
			}
		}
	}
	if len(names) == 0 {
		if b.made == nil {
			return Trust{}, nil
		}
		return t, nil
	}
	fresh, err := b.made.authority.Cover(names)
	if err == nil && fresh {
		err = b.keep()
	}
	if err != nil {
		return Trust{}, err
	}
	t.Root = b.made.authority.Root()
	t.Link, err = b.made.authority.Link()
	return t, err
}

// make makes what is not there yet. The caller holds mu and keeps it.
func (b *Binding) make() error {
	if b.made != nil {
		return nil
	}
	a, err := authority.New(b.clock)
	if err != nil {
		return err
	}
	b.made = &made{authority: a, seed: make([]byte, sha256.Size)}
	rand.Read(b.made.seed) // never fails: crypto/rand ends the program instead
	return nil
}

// Renew makes every placeholder void.
func (b *Binding) Renew() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		return nil
	}
	b.made.epoch++
	return b.keep()
}

// Placeholder returns what stands for a secret now, "" if nothing can.
func (b *Binding) Placeholder(secret string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		return ""
	}
	return b.made.placeholder(secret)
}

func (m *made) placeholder(secret string) string {
	h := hmac.New(sha256.New, m.seed)
	fmt.Fprintf(h, "%d %s", m.epoch, secret)
	return inject.Prefix + strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:32] // 160 bits
}

// Certificate returns what is shown to the guest in the place of a host.
func (b *Binding) Certificate(name string) (*tls.Certificate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		return nil, fmt.Errorf("there is no authority for %s", name)
	}
	return b.made.authority.Leaf(name)
}

// keep writes it. The caller holds mu.
func (b *Binding) keep() error {
	a, err := b.made.authority.Marshal()
	if err != nil {
		return err
	}
	doc, err := json.Marshal(kept{a, b.made.seed, b.made.epoch})
	if err != nil {
		return err
	}
	return durable.WriteFile(b.path, doc, 0o600)
}
