package sandbox

import (
	"crypto/rand"
	"encoding/hex"
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

// CheckName returns an error unless name may name a sandbox, a snapshot or a
// template; what says which in the error.
func CheckName(what, name string) error {
	if nameForm.MatchString(name) {
		return nil
	}
	return fault.New(fault.Invalid, "%s name %q is not usable", what, clip(name)).
		Hint("use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -")
}

func checkCreate(spec CreateSpec) error {
	if spec.Name != "" {
		if err := CheckName("sandbox", spec.Name); err != nil {
			return err
		}
	}
	if len(spec.Env) > maxEnv || len(spec.Metadata) > maxEnv {
		return fault.New(fault.Invalid, "more than %d variables or labels", maxEnv)
	}
	for k, v := range spec.Env {
		if !envForm.MatchString(k) || len(v) > maxEnvValue || strings.ContainsRune(v, 0) {
			return fault.New(fault.Invalid, "environment variable %q is not usable", clip(k))
		}
	}
	return nil
}

// clip shortens what a caller sent before it goes into a message.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// newMachineID makes a machine-id as machine-id(5) wants it: 32 lower-case
// hex digits.
func newMachineID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}
