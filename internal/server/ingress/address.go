package ingress

import (
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/reply"
)

// The headers that send a request into a sandbox.
const (
	SandboxHeader = "E2b-Sandbox-Id"
	PortHeader    = "E2b-Sandbox-Port"
)

// AgentPort is the port that stands for the agent in a sandbox.
const AgentPort = 49983

// Address is a port of a sandbox.
type Address struct {
	// Ref is what the request calls the sandbox, and maybe a snapshot of it
	// after an @.
	Ref  string
	Port int
	// ByName means that the host name says so, as browsers ask, and no header.
	ByName bool
}

// refForm is what ids, id prefixes and names have in common, and maybe a snapshot.
var refForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}(@[a-z0-9][a-z0-9-]{0,62})?$`)

// labelForm is the first label of a host name that leads into a sandbox: a port,
// and an id, which has no hyphen.
var labelForm = regexp.MustCompile(`^([0-9]{1,5})-([a-z0-9]{1,62})$`)

// Find returns the address that a request is for; ok is false if it is for the
// host itself. The error is fault.Invalid for one that is for a sandbox, and
// does not say which.
func Find(r *http.Request) (a Address, ok bool, err error) {
	host := Hostname(r.Host)
	if a, ok, err = byName(host); ok {
		return a, ok, err
	}
	ref, port := r.Header.Get(SandboxHeader), r.Header.Get(PortHeader)
	if ref == "" && port == "" || !mayName(host) {
		return Address{}, false, nil
	}
	for _, h := range []string{SandboxHeader, PortHeader} {
		switch n := len(r.Header.Values(h)); {
		case n == 0 || r.Header.Get(h) == "":
			return Address{}, true, fault.New(fault.Invalid, "missing header %s", h)
		case n > 1:
			return Address{}, true, fault.New(fault.Invalid, "header %s comes %d times", h, n)
		}
	}
	if !refForm.MatchString(ref) {
		return Address{}, true, fault.New(fault.Invalid, "%.64q is not the id or name of a sandbox", ref).
			Hint("ids and names are 1 to 63 of a-z, 0-9 and -")
	}
	n, err := parsePort(port)
	return Address{Ref: ref, Port: n}, true, err
}

func byName(host string) (Address, bool, error) {
	label, rest, _ := strings.Cut(host, ".")
	m := labelForm.FindStringSubmatch(label)
	if m == nil || rest == "" {
		return Address{}, false, nil
	}
	n, err := parsePort(m[1])
	return Address{Ref: m[2], Port: n, ByName: true}, true, err
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fault.New(fault.Invalid, "%q is not a port from 1 to 65535", reply.OneLine(s[:min(len(s), 64)]))
	}
	return int(n), nil
}

// mayName reports whether headers may name a sandbox under a host name: not
// under one that may belong to a sandbox itself.
func mayName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasPrefix(host, "sandbox.") || !strings.Contains(host, ".")
}

// Hostname is a Host header without port and brackets, in small letters.
func Hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
