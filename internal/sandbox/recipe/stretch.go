package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bulkhead/internal/fault"
)

// Defaults is what a program gets whose client does not say. The zero value
// leaves it to the agent.
type Defaults struct {
	Env     map[string]string `json:"env,omitempty"`
	User    string            `json:"user,omitempty"`
	Workdir string            `json:"workdir,omitempty"`
}

// maxEnv bounds all variables together, in bytes: the kernel takes 2 MiB of
// them with the arguments (execve(2)).
const maxEnv = 128 << 10

// Under returns the variables of a program that is given some of its own.
func (d Defaults) Under(own map[string]string) map[string]string {
	all := maps.Clone(d.Env)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return all
}

// Check returns a fault.Invalid error unless there can be such a user and such a
// folder. Variables have been checked where they came in.
func (d Defaults) Check() error {
	if d.User != "" && !userForm.MatchString(d.User) {
		return fault.New(fault.Invalid, "%.40q is no user", d.User)
	}
	return checkText("workdir", d.Workdir, maxPath)
}

// With returns d with another variable.
func (d Defaults) With(name, value string) (Defaults, error) {
	env := maps.Clone(d.Env)
	if env == nil {
		env = map[string]string{}
	}
	env[name] = value
	all := 0
	for n, v := range env {
		all += len(n) + len(v)
	}
	if all > maxEnv {
		return d, fault.New(fault.Invalid, "variables take more than %d KiB", maxEnv>>10)
	}
	d.Env = env
	return d, nil
}

// Stretch is some steps of a recipe, of which only the last may change the
// machine.
type Stretch struct {
	// First is the number of the first one, from 1.
	First int
	Steps []Step
}

// Last is the number of the last one.
func (s Stretch) Last() int { return s.First + len(s.Steps) - 1 }

// Forced reports whether what was kept of it is not to be used.
func (s Stretch) Forced() bool {
	return slices.ContainsFunc(s.Steps, func(s Step) bool { return s.Force })
}

// Stretches cuts a recipe behind each step that changes the machine. tail are
// the steps after the last of these.
func (r Recipe) Stretches() (all []Stretch, tail Stretch) {
	tail.First = 1
	for i, s := range r.Steps {
		tail.Steps = append(tail.Steps, s)
		if s.Changes() {
			all = append(all, tail)
			tail = Stretch{First: i + 2}
		}
	}
	return all, tail
}

// revision goes up when steps are carried out in another way: what was kept is
// then not used.
const revision = 1

// Key is equal for what comes out the same: the same steps of the same team, in
// a machine of the same snapshot in which the same holds.
func Key(team, snapshot string, holds Defaults, s Stretch) string {
	b, err := json.Marshal([]any{revision, team, snapshot, holds, s.Steps})
	if err != nil {
		panic(err) // plain strings always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// SizeKey is the same for a snapshot of which a machine of another size is made.
func SizeKey(team, snapshot string, cpus, memoryMiB int) string {
	b := fmt.Appendf(nil, "%d size %q %q %d %d", revision, team, snapshot, cpus, memoryMiB)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Source is what a COPY takes of the files that came for it: one file or folder,
// or all that is in a folder.
type Source struct {
	// Path is below the context; "." for the context itself.
	Path string
	// Within means that what is in it is copied, not it.
	Within bool
}

// Source reads the source of a COPY. A pattern has been applied by who sent the
// files: all that came of the folder before it is meant.
func (s Step) Source() Source {
	parts := strings.Split(path.Clean(s.arg(0)), "/")
	for i, p := range parts {
		if strings.ContainsAny(p, `*?[{`) || strings.Contains(p, "(") && strings.ContainsAny(p, "!@+") {
			return Source{path.Clean(strings.Join(parts[:i], "/")), true}
		}
	}
	p := strings.Join(parts, "/")
	return Source{p, p == "."}
}

// Owner is whose files are that a COPY makes, as chown(1) reads it, for a user
// who does it.
func (s Step) Owner(user string) string {
	owner := s.arg(2)
	if owner == "" {
		owner = user
	}
	if !strings.Contains(owner, ":") && strings.Trim(owner, "0123456789") != "" {
		owner += ":" // the group that goes with it; a number need not have one
	}
	return owner
}

// Mode is that of files that a COPY makes; "" for the one that they came with.
func (s Step) Mode() string { return s.arg(3) }

// As is who runs a RUN.
func (s Step) As(user string) string {
	if s.arg(1) != "" {
		return s.arg(1)
	}
	return user
}

// Title is a line that says what a step is.
func (s Step) Title() string {
	line, _, more := strings.Cut(strings.TrimSpace(string(s.Kind)+" "+strings.Join(s.shown(), " ")), "\n")
	const most = 200
	if len(line) > most {
		line, more = strings.ToValidUTF8(line[:most], ""), true
	}
	if more {
		line += " ..."
	}
	return line
}

// shown are the arguments that may be shown: values of variables may be secret.
func (s Step) shown() []string {
	switch s.Kind {
	case Env:
		var names []string
		for i := 0; i < len(s.Args); i += 2 {
			names = append(names, s.Args[i])
		}
		return names
	case Copy:
		return s.Args[:min(2, len(s.Args))]
	}
	return s.Args[:min(1, len(s.Args))]
}
