// Package recipe is what a client writes to have a template built: what it
// starts from, steps, and what is to run in the end.
//
//	base ──step──► step ──► … ──► start, ready ──► template
//
// Steps of two kinds change the machine (COPY, RUN); the others change what
// holds for those after them (Defaults), and for sandboxes in the end. A stretch
// (Stretches) is a step that changes the machine with those before it that do
// not: what it makes of a machine is kept under its key (Key).
//
// recipe is pure: it checks and computes. That steps are carried out in a
// machine, and how, it must not know.
package recipe

import (
	"path"
	"regexp"
	"strings"

	"bulkhead/internal/fault"
)

// Bounds of a recipe, far above those of real ones, in bytes but for maxSteps.
const (
	maxSteps   = 500
	maxPath    = 4 << 10
	maxCommand = 256 << 10
	maxValue   = 32 << 10
	maxName    = 128
	maxAll     = 4 << 20
	// maxImage bounds what names an image.
	maxImage = 1 << 10
)

// Kind says what a step does.
type Kind string

// The kinds of steps.
const (
	Copy    Kind = "COPY"    // source, destination, owner or "", mode or ""
	Run     Kind = "RUN"     // command, maybe user
	Env     Kind = "ENV"     // names and values in turn
	Workdir Kind = "WORKDIR" // path
	User    Kind = "USER"    // name
)

// Step is one step of a build. Args are as its kind says.
type Step struct {
	Kind Kind     `json:"kind"`
	Args []string `json:"args"`
	// Files is the hash of what a COPY copies.
	Files string `json:"files,omitempty"`
	// Force means that what was kept of it is not to be used.
	Force bool `json:"-"`
}

// Changes reports whether it changes the machine.
func (s Step) Changes() bool { return s.Kind == Copy || s.Kind == Run }

// arg is an argument that may be missing.
func (s Step) arg(i int) string {
	if i < len(s.Args) {
		return s.Args[i]
	}
	return ""
}

// Image names an image, and by what it can be had. What it is had by is secret.
type Image struct {
	Ref      string
	Registry Registry
}

// Registry is what a registry asks for; the zero value for one that asks for
// nothing.
type Registry struct{ Kind, User, Password, Account string }

// Recipe is what a template is built by.
type Recipe struct {
	// Image or Template is what it starts from.
	Image    Image
	Template string
	Steps    []Step
	// Force means that nothing that was kept is to be used.
	Force bool
	// Start is what is to run in sandboxes from the beginning, Ready what tells
	// that it is up; "" for none.
	Start, Ready string
}

// The forms of names.
var (
	userForm  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$`)
	ownerForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31}(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31})?$`)
	modeForm  = regexp.MustCompile(`^[0-7]{1,4}$`)
	nameForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hashForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckHash returns an error unless s is the hash of files.
func CheckHash(s string) error {
	if hashForm.MatchString(s) {
		return nil
	}
	return fault.New(fault.Invalid, "%.80q is no hash of files", s).Hint("it is a SHA-256 in 64 hexadecimal digits")
}

// Check returns a fault.Invalid error unless a build may be tried by r.
func (r Recipe) Check() error {
	switch {
	case (r.Image.Ref == "") == (r.Template == ""):
		return fault.New(fault.Invalid, "exactly one of fromImage and fromTemplate is needed")
	case len(r.Image.Ref) > maxImage || strings.ContainsFunc(r.Image.Ref, isControl):
		return fault.New(fault.Invalid, "%.80q is no image", r.Image.Ref)
	case len(r.Steps) > maxSteps:
		return fault.New(fault.Invalid, "%d steps are more than %d", len(r.Steps), maxSteps)
	}
	for _, command := range []string{r.Start, r.Ready} {
		if err := checkText("start or ready command", command, maxCommand); err != nil {
			return err
		}
	}
	all := 0
	for i, s := range r.Steps {
		if err := s.check(); err != nil {
			return fault.New(fault.Invalid, "step %d: %w", i+1, err)
		}
		for _, a := range s.Args {
			all += len(a)
		}
	}
	if all > maxAll {
		return fault.New(fault.Invalid, "steps take more than %d MiB", maxAll>>20)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func checkText(what, s string, most int) error {
	switch {
	case len(s) > most:
		return fault.New(fault.Invalid, "%s has %d bytes, of %d", what, len(s), most)
	case strings.ContainsRune(s, 0):
		return fault.New(fault.Invalid, "%s holds a zero byte", what)
	}
	return nil
}

func (s Step) check() error {
	switch s.Kind {
	case Copy:
		return s.checkCopy()
	case Run:
		return s.checkRun()
	case Env:
		return s.checkEnv()
	case Workdir:
		if len(s.Args) != 1 || s.Args[0] == "" {
			return fault.New(fault.Invalid, "WORKDIR needs a path")
		}
		return checkText("path", s.Args[0], maxPath)
	case User:
		if len(s.Args) != 1 || !userForm.MatchString(s.Args[0]) {
			return fault.New(fault.Invalid, "USER needs the name of a user, not %.40q", s.arg(0))
		}
		return nil
	}
	return fault.New(fault.Invalid, "%.40q is no kind of step", string(s.Kind)).Hint("there are COPY, RUN, ENV, WORKDIR and USER")
}

func (s Step) checkCopy() error {
	switch src := path.Clean(s.arg(0)); {
	case len(s.Args) < 2 || len(s.Args) > 4 || s.Args[0] == "" || s.Args[1] == "":
		return fault.New(fault.Invalid, "COPY needs a source and a destination")
	case path.IsAbs(src) || src == ".." || strings.HasPrefix(src, "../"):
		return fault.New(fault.Invalid, "COPY: %.80q leads out of the context", s.Args[0])
	case s.arg(2) != "" && !ownerForm.MatchString(s.arg(2)):
		return fault.New(fault.Invalid, "COPY: %.40q is no user", s.arg(2))
	case s.arg(3) != "" && !modeForm.MatchString(s.arg(3)):
		return fault.New(fault.Invalid, "COPY: %.40q is no mode in octal digits", s.arg(3))
	}
	for _, p := range s.Args[:2] {
		if err := checkText("path", p, maxPath); err != nil {
			return err
		}
	}
	return CheckHash(s.Files)
}

func (s Step) checkRun() error {
	switch {
	case len(s.Args) < 1 || len(s.Args) > 2 || s.Args[0] == "":
		return fault.New(fault.Invalid, "RUN needs a command")
	case s.arg(1) != "" && !userForm.MatchString(s.arg(1)):
		return fault.New(fault.Invalid, "RUN: %.40q is no user", s.arg(1))
	}
	return checkText("command", s.Args[0], maxCommand)
}

func (s Step) checkEnv() error {
	if len(s.Args) == 0 || len(s.Args)%2 != 0 {
		return fault.New(fault.Invalid, "ENV needs names and values")
	}
	for i := 0; i < len(s.Args); i += 2 {
		if name := s.Args[i]; len(name) > maxName || !nameForm.MatchString(name) {
			return fault.New(fault.Invalid, "ENV: %.40q is no name of a variable", name)
		}
		if err := checkText("value", s.Args[i+1], maxValue); err != nil {
			return err
		}
	}
	return nil
}
