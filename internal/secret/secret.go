// Package secret keeps what sandboxes may use and never see: named values,
// sealed with a key of the host.
//
// A value goes in once and comes out only by Get, for the moment of its use;
// nothing here prints, logs or lists one. On disk is one file, in which each
// value is sealed under its name, so that neither can be put in the place of
// another. Who has both the file and the host's key has the values.
//
// secret must not know what a value is for. A Vault is safe for concurrent use.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
)

// Bounds of the vault.
const (
	// MinValue is the least length of a value in bytes: a shorter one could be
	// guessed, and would be found by chance where its echo is looked for.
	MinValue = 8
	MaxValue = 16 << 10
	// maxSecrets bounds the file.
	maxSecrets = 1000
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Entry is what may be known of a secret.
type Entry struct {
	Name string
	// Set is when its value was last set.
	Set time.Time
}

// Vault holds the secrets of a host.
type Vault struct {
	path  string
	seal  cipher.AEAD
	clock func() time.Time

	mu   sync.RWMutex
	kept map[string]sealed // guarded by mu
}

// sealed is a secret as it is on disk.
type sealed struct {
	Set time.Time `json:"set"`
	// Box is a nonce and the value, sealed with the name.
	Box []byte `json:"box"`
}

// Open reads the vault at path, which need not exist. key is the host's; what
// seals is derived from it. The error is fault.Corrupt for a file that is no
// vault.
func Open(path string, key []byte, clock func() time.Time) (*Vault, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "bulkhead secrets v1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key of secrets: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	// Random nonces of 96 bits are safe for 2^32 values (NIST SP 800-38D, 8.3).
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	v := &Vault{path: path, seal: seal, clock: clock, kept: map[string]sealed{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	if err := json.Unmarshal(b, &v.kept); err != nil {
		return nil, fault.New(fault.Corrupt, "read secrets: %s: %w", path, err)
	}
	return v, nil
}

// List returns what may be known of all secrets, by name.
func (v *Vault) List() []Entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := make([]Entry, 0, len(v.kept))
	for _, name := range slices.Sorted(maps.Keys(v.kept)) {
		all = append(all, Entry{name, v.kept[name].Set})
	}
	return all
}

// Has reports whether there is a secret of a name.
func (v *Vault) Has(name string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ok := v.kept[name]
	return ok
}

// Set stores a value, in place of an older one of that name. The error is
// fault.Invalid for what is no name or no value, and says nothing of a value.
func (v *Vault) Set(name, value string) error {
	switch {
	case !validName.MatchString(name):
		return fault.New(fault.Invalid, "%.80q is no name of a secret", name).Hint("use 1 to 63 letters, digits, dots, hyphens and underscores")
	case len(value) < MinValue || len(value) > MaxValue:
		return fault.New(fault.Invalid, "the value of secret %s has %d bytes, want %d to %d", name, len(value), MinValue, MaxValue)
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fault.New(fault.Invalid, "the value of secret %s is not one line of printable text", name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := maps.Clone(v.kept)
	kept[name] = sealed{v.clock(), v.seal.Seal(nil, nil, []byte(value), []byte(name))}
	if len(kept) > maxSecrets {
		return fault.New(fault.Exhausted, "there are %d secrets already", maxSecrets).Hint("remove one: bulkhead secret rm NAME")
	}
	return v.keep(kept)
}

// Remove removes a secret; fault.NotFound if there is none of that name.
func (v *Vault) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.kept[name]; !ok {
		return missing(name)
	}
	kept := maps.Clone(v.kept)
	delete(kept, name)
	return v.keep(kept)
}

// Get returns a value, to be used and forgotten. The error is fault.NotFound,
// or fault.Corrupt for one that was sealed with another key or changed.
func (v *Vault) Get(name string) (string, error) {
	v.mu.RLock()
	s, ok := v.kept[name]
	v.mu.RUnlock()
	if !ok {
		return "", missing(name)
	}
	value, err := v.seal.Open(nil, nil, s.Box, []byte(name))
	if err != nil {
		return "", fault.New(fault.Corrupt, "secret %s does not open with this host's key", name).Hint("set it again: bulkhead secret set %s", name)
	}
	return string(value), nil
}

func missing(name string) error {
	return fault.New(fault.NotFound, "no secret is called %.80q", name).Hint("set it: bulkhead secret set NAME")
}

// keep writes the vault and takes it on. The caller holds mu.
func (v *Vault) keep(kept map[string]sealed) error {
	b, err := json.MarshalIndent(kept, "", " ")
	if err == nil {
		err = durable.WriteFile(v.path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	v.kept = kept
	return nil
}
