package image

import "context"

// What tests look at from outside.
var (
	NewLines    = func(tell func(string)) *lines { return &lines{tell: tell} }
	WriteInitrd = writeInitrd
	FindModules = findModules
)

// Limits of output.
const (
	MaxLine   = maxLine
	LastLines = lastLines
	LastBytes = lastBytes
)

func (l *lines) Flush()         { l.flush() }
func (l *lines) Last() []string { return l.last }

// ParseKernel returns package and version, "" if there is none.
func ParseKernel(show string) (pkg, version string) {
	k, _ := parseKernel([]byte(show))
	return k.Package, k.Version
}

// MissingPackage returns the package that apt complains of, "" if there is none.
func MissingPackage(said string) string {
	if m := noPackage.FindStringSubmatch(said); m != nil {
		return m[1]
	}
	return ""
}

// Keys returns the keys of disk and initramfs that a recipe leads to.
func Keys(r Recipe, mirror, kernelVersion, agent string) (disk, initrd string, err error) {
	if r, err = r.normal(); err != nil {
		return "", "", err
	}
	k := kernel{"linux-image-6.1.0-1-cloud-amd64", kernelVersion}
	return r.diskPart(k, mirror, "/tree").key, initrdPart(k, agent, r.Agent, "/tree").key, nil
}

// Run runs a program as a step of a build does.
func Run(ctx context.Context, dir string, log func(string), name string, args ...string) error {
	return workspace{dir, log}.run(ctx, name, args...)
}

// Part is one part of a cache, made by one step.
type Part struct {
	Kind, Key string
	Make      func(ctx context.Context, dir string, log func(string)) error
}

// Ensure makes parts in the cache dir.
func Ensure(ctx context.Context, dir string, progress Progress, parts ...Part) error {
	var ps []part
	for _, p := range parts {
		ps = append(ps, part{p.Kind, p.Key, []step{{"make " + p.Kind, func(ctx context.Context, w workspace) error {
			return p.Make(ctx, w.dir, w.log)
		}}}})
	}
	return (&cache{dir}).ensure(ctx, progress, ps...)
}

// Release is that of the kernel of Adopt.
const Release = "6.1.0-1-cloud-amd64"

// Adopt turns the folder root within dir into a machine's, with the modules of
// an unpacked kernel.
func Adopt(ctx context.Context, dir, kernelTree string) error {
	return Base{Path: "/it's/bin:/usr/bin"}.adopt(ctx, workspace{dir, func(string) {}}, kernel{"linux-image-" + Release, "1"}, kernelTree)
}
