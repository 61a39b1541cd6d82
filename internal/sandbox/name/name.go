// Package name says what sandboxes, snapshots and templates may be called, and
// makes names up. It is pure but for randomness.
package name

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"bulkhead/internal/fault"
)

// nameForm is a DNS label (RFC 1123): a sandbox's name is its host name too.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// envForm is what POSIX calls a name; values are free of NUL only.
var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// Bounds on what a caller may attach to a sandbox.
const (
	maxEnv      = 256
	maxEnvValue = 32 << 10
)

// Check returns an error unless name may name a sandbox, a snapshot or a
// template; what says which in the error.
func Check(what, name string) error {
	if nameForm.MatchString(name) {
		return nil
	}
	return fault.New(fault.Invalid, "%s name %q is not usable", what, Clip(name)).
		Hint("use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -")
}

// CheckVariables returns an error unless variables and labels may be attached
// to a sandbox.
func CheckVariables(env, labels map[string]string) error {
	if len(env) > maxEnv || len(labels) > maxEnv {
		return fault.New(fault.Invalid, "more than %d variables or labels", maxEnv)
	}
	for k, v := range env {
		if !envForm.MatchString(k) || len(v) > maxEnvValue || strings.ContainsRune(v, 0) {
			return fault.New(fault.Invalid, "environment variable %q is not usable", Clip(k))
		}
	}
	return nil
}

// Clip shortens what a caller sent before it goes into a message.
func Clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// MachineID makes a machine-id as machine-id(5) wants it: 32 lower-case
// hex digits.
func MachineID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

// Random returns n characters of [a-z0-9]. The bias of the modulo is harmless:
// these are names, not secrets.
func Random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

// Derived makes a name up from another one, short enough to be one.
func Derived(from string) string { return from[:min(len(from), 58)] + "-" + Random(4) }

// Numbered returns the name of the i-th of several that are called as somebody
// said, or after another one if nobody did.
func Numbered(said, after string, i, of int) string {
	switch {
	case said == "":
		return Derived(after)
	case of > 1:
		return fmt.Sprintf("%s-%d", said, i+1)
	}
	return said
}

// Pick returns those that ref names: the one of this id, else all of this name,
// else all whose id begins with it.
func Pick[T any](ref string, all []T, of func(T) (id, name string)) []T {
	var namesakes, fits []T
	for _, one := range all {
		switch id, called := of(one); {
		case ref == id:
			return []T{one}
		case ref == called:
			namesakes = append(namesakes, one)
		case ref != "" && strings.HasPrefix(id, ref):
			fits = append(fits, one)
		}
	}
	if namesakes != nil {
		return namesakes
	}
	return fits
}
