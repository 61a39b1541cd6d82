package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/fault"
)

// keyBytes is how many random bytes a key has: with 160 bits, a plain hash of
// one is as good as a slow one.
const keyBytes = 20

// keyForm is what existing SDKs expect of a key.
var keyForm = regexp.MustCompile(`^e2b_[0-9a-f]{40}$`)

// nameForm is what a key may be called.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// maxKeys bounds what is held in memory.
const maxKeys = 10_000

// useEvery is how exactly it is known when a key was used last.
const useEvery = time.Minute

// ErrUnknown is the error of whoever needs a key and has no good one.
var ErrUnknown error = fault.New(fault.Denied, "this needs a good key, in the header X-API-Key").
	Hint("ask whoever runs this host for one: bulkhead key create NAME")

// ErrRevoked is why the context of a request ends whose key is no longer good.
var ErrRevoked error = fault.New(fault.Denied, "the key is no longer good")

// Key is what is known of a key. Its value is shown once and kept nowhere.
type Key struct {
	// Name is unique on the host.
	Name string
	// Hash is the SHA-256 of its value.
	Hash    []byte
	Team    string
	Scope   Scope
	Sandbox string
	Created time.Time
	// Expires is when it ends; zero for never.
	Expires time.Time
	// Used is when it was used last, give or take a minute; zero for never.
	Used time.Time
}

func (k Key) principal() Principal {
	return Principal{Team: k.Team, Scope: k.Scope, Sandbox: k.Sandbox, Key: k.Name}
}

func (k Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Store keeps keys. SaveKey replaces the one of the same name.
type Store interface {
	SaveKey(ctx context.Context, k Key) error
	DeleteKey(ctx context.Context, name string) error
	Keys(ctx context.Context) ([]Key, error)
}

// Keys are the keys of a host.
type Keys struct {
	store Store
	clock func() time.Time

	mu   sync.Mutex
	kept map[string]*held // by hash; guarded by mu
}

// held is a key in use. Its fields are guarded by the mutex of Keys.
type held struct {
	Key
	// life ends when the key is revoked.
	life context.Context
	end  context.CancelFunc
}

func hold(key Key) *held {
	h := &held{Key: key}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// Open reads the keys of a store.
func Open(ctx context.Context, store Store, clock func() time.Time) (*Keys, error) {
	k := &Keys{store: store, clock: clock, kept: map[string]*held{}}
	all, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range all {
		k.kept[string(key.Hash)] = hold(key)
	}
	return k, nil
}

// Create makes a key and returns it with its value, which nobody can find out
// later. Of the argument, what is not for the caller to say is ignored.
func (k *Keys) Create(ctx context.Context, key Key) (Key, string, error) {
	now := k.clock()
	switch {
	case !nameForm.MatchString(key.Name):
		return Key{}, "", fault.New(fault.Invalid, "%.40q is no name of a key", key.Name).
			Hint("use 1 to 63 of a-z, 0-9, dots, hyphens and underscores")
	case key.Scope <= None || key.Scope > Admin:
		return Key{}, "", fault.New(fault.Invalid, "key %s has no scope", key.Name)
	case key.expired(now):
		return Key{}, "", fault.New(fault.Invalid, "key %s would have expired already", key.Name)
	case key.Sandbox != "" && key.Scope > Operate:
		return Key{}, "", fault.New(fault.Invalid, "a key for one sandbox cannot have the scope %s", key.Scope).
			Hint("an agent that decides what its own machine may do is not held by anything")
	}
	if err := CheckTeam(key.Team); err != nil {
		return Key{}, "", err
	}
	random := make([]byte, keyBytes)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	value := "e2b_" + hex.EncodeToString(random)
	key.Hash, key.Created, key.Used = hashOf(value), now, time.Time{}

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.named(key.Name) != nil {
		return Key{}, "", fault.New(fault.Exists, "there is a key %s already", key.Name).
			Hint("choose another name, or: bulkhead key revoke %s", key.Name)
	}
	if len(k.kept) >= maxKeys {
		return Key{}, "", fault.New(fault.Exhausted, "there are %d keys already", maxKeys).Hint("bulkhead key revoke NAME")
	}
	if err := k.store.SaveKey(ctx, key); err != nil {
		return Key{}, "", err
	}
	k.kept[string(key.Hash)] = hold(key)
	return key, value, nil
}

// Revoke ends a key for good. Whatever goes on for it ends too.
func (k *Keys) Revoke(ctx context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.named(name)
	if h == nil {
		return fault.New(fault.NotFound, "no key is called %.64q", name).Hint("bulkhead key ls")
	}
	if err := k.store.DeleteKey(ctx, name); err != nil {
		return err
	}
	delete(k.kept, string(h.Hash))
	h.end()
	return nil
}

// Forget revokes every key that is for one sandbox, which is gone.
func (k *Keys) Forget(ctx context.Context, sandbox string) error {
	var errs []error
	for _, key := range k.List() {
		if key.Sandbox == sandbox {
			errs = append(errs, k.Revoke(ctx, key.Name))
		}
	}
	return errors.Join(errs...)
}

// List returns all keys by name.
func (k *Keys) List() []Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Key, 0, len(k.kept))
	for _, h := range k.kept {
		all = append(all, h.Key)
	}
	slices.SortFunc(all, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// named finds a key. mu is held.
func (k *Keys) named(name string) *held {
	for _, h := range k.kept {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// LooksLike reports whether a value has the form of a key of ours.
func LooksLike(value string) bool { return keyForm.MatchString(value) }

// Admit returns a context for what is asked with a key: its principal is in it,
// and it ends with ErrRevoked when the key is revoked or expires. The error is
// ErrUnknown for whatever is not a good key. The caller calls
// done when what was asked for is over.
func (k *Keys) Admit(ctx context.Context, value string) (_ context.Context, done func(), err error) {
	h, key := k.use(ctx, value)
	if h == nil {
		return nil, nil, ErrUnknown
	}
	ctx, cancel := context.WithCancelCause(With(ctx, key.principal()))
	stopExpiry := func() bool { return true }
	if !key.Expires.IsZero() {
		stopExpiry = time.AfterFunc(key.Expires.Sub(k.clock()), func() { cancel(ErrRevoked) }).Stop
	}
	stopRevocation := context.AfterFunc(h.life, func() { cancel(ErrRevoked) })
	return ctx, func() { stopExpiry(); stopRevocation(); cancel(nil) }, nil
}

// use finds a good key by its value and notes that it was used.
func (k *Keys) use(ctx context.Context, value string) (*held, Key) {
	if !LooksLike(value) {
		return nil, Key{}
	}
	now := k.clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	// Who could guess a hash from the time that this takes has no value for it.
	h := k.kept[string(hashOf(value))]
	if h == nil || h.expired(now) {
		return nil, Key{}
	}
	if now.Sub(h.Used) >= useEvery {
		h.Used = now
		_ = k.store.SaveKey(context.WithoutCancel(ctx), h.Key) // a key is good all the same
	}
	return h, h.Key
}

func hashOf(value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}
