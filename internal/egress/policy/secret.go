package policy

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"bulkhead/internal/fault"
)

// maxSecrets is how many secrets one rule may have.
const maxSecrets = 8

// Secret says how requests use a secret of the host: it is put into a header,
// or in place of what the guest has in a variable of its environment.
type Secret struct {
	// Name is the secret's.
	Name string
	// Header is a line with {} for the value, "Authorization: Bearer {}"; ""
	// if Env says how.
	Header string
	// Env is the variable, "" if Header says how. What the guest has in it
	// counts in headers of requests to the rule's name, nowhere else.
	Env string
}

// Split returns the name of the header and its value, with {} in it.
func (s Secret) Split() (name, value string) {
	name, value, _ = strings.Cut(s.Header, ":")
	return textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value)
}

// String says it in a few words: "openai as header Authorization".
func (s Secret) String() string {
	if s.Env != "" {
		return s.Name + " as $" + s.Env
	}
	name, _ := s.Split()
	return s.Name + " as header " + name
}

func (s Secret) check() error {
	if s.Name == "" {
		return errors.New("there is no name of a secret")
	}
	if (s.Header != "") == (s.Env != "") {
		return errors.New("want either header or env")
	}
	return nil
}

// checkSecrets says what is wrong with the secrets of a rule.
func (r Rule) checkSecrets() error {
	switch {
	case r.Name == "" || strings.HasPrefix(r.Name, "*"):
		return errors.New("secrets are for one name, not for many")
	case r.Action == Deny:
		return errors.New("there are secrets for what is denied")
	case !slices.Equal(r.ports(), []PortRange{{443, 443}}):
		return errors.New("secrets go over HTTPS, port 443, only")
	}
	for i, s := range r.Secrets {
		name, _ := s.Split()
		for _, before := range r.Secrets[:i] {
			earlier, _ := before.Split()
			if s.Env != "" && s.Env == before.Env || s.Header != "" && name == earlier {
				return fmt.Errorf("%s is there twice", s)
			}
		}
	}
	return nil
}

// secrets writes the rule's secrets as a document has them.
func (r Rule) secrets() string {
	var all list
	for _, s := range r.Secrets {
		var l list
		l.add(true, "name: %q", s.Name)
		l.add(s.Header != "", "header: %q", s.Header)
		l.add(s.Env != "", "env: %q", s.Env)
		all = append(all, "{"+strings.Join(l, ", ")+"}")
	}
	return strings.Join(all, ", ")
}

// ambiguous finds a rule that gives a variable to another secret than an
// earlier one; -1 if there is none.
func ambiguous(rules []Rule) (i int, variable string) {
	of := map[string]string{}
	for i, r := range rules {
		for _, s := range r.Secrets {
			if name, taken := of[s.Env]; taken && s.Env != "" && name != s.Name {
				return i, s.Env
			}
			of[s.Env] = s.Name
		}
	}
	return -1, ""
}

var (
	secretName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	variable   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	headerLine = regexp.MustCompile(`^[A-Za-z0-9_-]+: ?[!-~]([ -~]*[!-~])?$`)
)

func parseSecretName(text string) (string, error) {
	if !secretName.MatchString(text) {
		return "", fault.New(fault.Invalid, "%s is no name of a secret", quote(text))
	}
	return text, nil
}

func parseVariable(text string) (string, error) {
	if !variable.MatchString(text) {
		return "", fault.New(fault.Invalid, "%s is no name of a variable", quote(text))
	}
	return text, nil
}

// connections are headers that say how a message is carried, not what it says.
var connections = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Content-Encoding", "Expect", "Host", "Keep-Alive",
	"Proxy-Connection", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// parseHeader reads "Name: value" with one {} in the value.
func parseHeader(text string) (string, error) {
	const most = 200
	name, value := Secret{Header: text}.Split()
	switch {
	case len(text) > most || !headerLine.MatchString(text):
		return "", fault.New(fault.Invalid, "%s is not a header like \"x-api-key: {}\"", quote(text))
	case strings.Count(value, "{}") != 1:
		return "", fault.New(fault.Invalid, "%s does not have {} once, for the secret", quote(text))
	case slices.Contains(connections, name):
		return "", fault.New(fault.Invalid, "header %s is not for secrets", name)
	}
	return text, nil
}

// WithoutSecrets returns the policy as it is where no secret is known.
func (p *Policy) WithoutSecrets() *Policy {
	plain := *p
	plain.Rules = slices.Clone(p.Rules)
	for i := range plain.Rules {
		plain.Rules[i].Secrets = nil
	}
	return &plain
}
