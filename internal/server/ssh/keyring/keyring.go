// Package keyring keeps the public keys by which people come in over SSH, and
// the host's own key.
//
// A key belongs to a team; the same one may belong to several. On disk is one
// file of what anybody may know. keyring must not know what a key opens. A Ring
// is safe for concurrent use.
package keyring

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"

	"golang.org/x/crypto/ssh"
)

// Bounds of a ring.
const (
	// maxLine bounds a key as text: an RSA key of 16384 bits has 3 KiB.
	maxLine = 8 << 10
	// maxKeys bounds the file.
	maxKeys = 10_000
	// minRSA is the least size of an RSA key, in bits (NIST SP 800-131A).
	minRSA = 2048
)

// validName is what a key may be called.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// Key is a public key.
type Key struct {
	Team string `json:"team"`
	// Name is unique in its team.
	Name string `json:"name"`
	// Line is the key as authorized_keys has it, without options and comment.
	Line  string    `json:"key"`
	Added time.Time `json:"added"`
}

// Fingerprint is what a key goes by, "SHA256:…"; "" for one that is broken.
func (k Key) Fingerprint() string {
	pub, err := parse(k.Line)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(pub)
}

// Ring is the keys of a host.
type Ring struct {
	path  string
	clock func() time.Time

	mu   sync.RWMutex
	kept []Key // guarded by mu
}

// Open reads the ring at path, which need not exist. The error is fault.Corrupt
// for a file that is none.
func Open(path string, clock func() time.Time) (*Ring, error) {
	r := &Ring{path: path, clock: clock}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read SSH keys: %w", err)
	}
	if err := json.Unmarshal(b, &r.kept); err != nil {
		return nil, fault.New(fault.Corrupt, "read SSH keys: %s: %w", path, err)
	}
	return r, nil
}

// Add adds a key of a team, as a line of a .pub file. Without a name it goes by
// the line's comment. The error is fault.Invalid for what is no key that is
// good enough, fault.Exists if the team has it already.
func (r *Ring) Add(team, name, line string) (Key, error) {
	pub, comment, err := read(line)
	if err != nil {
		return Key{}, err
	}
	name = cmp.Or(name, comment)
	if !validName.MatchString(name) {
		return Key{}, fault.New(fault.Invalid, "%.80q is no name of a key", name).
			Hint("use 1 to 63 letters, digits and . _ @ -: bulkhead ssh-key add FILE --name NAME")
	}
	key := Key{Team: team, Name: name, Line: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), Added: r.clock()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kept {
		if k.Team == team && (k.Name == name || k.Line == key.Line) {
			return Key{}, fault.New(fault.Exists, "team %s has this key or this name already: %s", team, k.Name).
				Hint("bulkhead ssh-key rm %s", k.Name)
		}
	}
	if len(r.kept) >= maxKeys {
		return Key{}, fault.New(fault.Exhausted, "there are %d SSH keys already", maxKeys).Hint("bulkhead ssh-key rm NAME")
	}
	return key, r.keep(append(slices.Clone(r.kept), key))
}

// Remove removes the key that a team calls by a name or a fingerprint.
func (r *Ring) Remove(team, ref string) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.kept, func(k Key) bool { return k.Team == team && (k.Name == ref || k.Fingerprint() == ref) })
	if i < 0 {
		return Key{}, fault.New(fault.NotFound, "no SSH key is called %.80q", ref).Hint("bulkhead ssh-key ls")
	}
	key := r.kept[i]
	return key, r.keep(slices.Delete(slices.Clone(r.kept), i, i+1))
}

// List returns all keys, by team and name.
func (r *Ring) List() []Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := slices.Clone(r.kept)
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Team, b.Team), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Teams returns the teams that a key belongs to; none for one that nobody has
// added.
func (r *Ring) Teams(pub ssh.PublicKey) (teams []string) {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.kept {
		if k.Line == line {
			teams = append(teams, k.Team)
		}
	}
	return teams
}

// keep writes the ring and takes it on. The caller holds mu.
func (r *Ring) keep(kept []Key) error {
	b, err := json.MarshalIndent(kept, "", " ")
	if err == nil {
		err = durable.WriteFile(r.path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep SSH keys: %w", err)
	}
	r.kept = kept
	return nil
}
