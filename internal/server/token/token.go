// Package token makes and checks what lets somebody into one sandbox without a
// key: the tokens that existing SDKs send to its agent and to its private ports,
// and signatures of URLs to its files.
//
// A token is a function of a secret of the host and the sandbox's id, so it stays
// the same while a sandbox is paused, rolled back or moved to another daemon, and
// nothing has to be kept. Whoever has a token of one sandbox has none of another.
//
// token must not know HTTP or sandboxes. A Seed is safe for concurrent use.
package token

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bulkhead/internal/fault"
)

// Seed is what all tokens of a host are made from.
type Seed struct{ key []byte }

// New derives a seed from the host's key.
func New(hostKey []byte) (Seed, error) {
	key, err := hkdf.Key(sha256.New, hostKey, nil, "bulkhead access tokens v1", sha256.Size)
	if err != nil {
		return Seed{}, fmt.Errorf("derive seed of tokens: %w", err)
	}
	return Seed{key}, nil
}

// Access is the token for the agent in a sandbox: whoever has it can run
// programs there.
func (s Seed) Access(id string) string { return s.of(id) }

// Traffic is the token for ports of a sandbox that are not public.
func (s Seed) Traffic(id string) string { return s.of("sandbox-traffic-" + id) }

func (s Seed) of(text string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// Is reports whether a token is the right one. How long it takes says nothing
// about where they differ.
func Is(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// File is what a URL to a file says, as it is in the query.
type File struct {
	Path, User string
	// Write means that the URL is for writing, not reading.
	Write bool
	// Signature is what is to be checked.
	Signature string
	// Expiration is in seconds of Unix time, "" for never.
	Expiration string
}

// Sign returns the signature of a file with the access token of its sandbox.
func Sign(f File, access string) string {
	operation := "read"
	if f.Write {
		operation = "write"
	}
	parts := []string{f.Path, operation, f.User, access}
	if f.Expiration != "" {
		parts = append(parts, f.Expiration)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ":")))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Signed reports whether a file's signature is one by an access token, however old.
func Signed(f File, access string) bool { return Is(f.Signature, Sign(f, access)) }

// Fresh returns a fault.Denied error for a signature whose time is over.
func Fresh(f File, now time.Time) error {
	if f.Expiration == "" {
		return nil
	}
	n, err := strconv.ParseInt(f.Expiration, 10, 64)
	if err != nil || now.Unix() > n {
		return fault.New(fault.Denied, "signature is already expired")
	}
	return nil
}
