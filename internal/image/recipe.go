package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"

	"bulkhead/internal/fault"
)

// Recipe says what image to build.
type Recipe struct {
	// Suite is Debian's name of the release; "" means bookworm, the one that
	// is tested.
	Suite string
	// Packages are Debian packages on top of those that every image has.
	Packages []string
	// BuildTools adds compilers and headers.
	BuildTools bool
	// DiskMiB is the size of the root disk, 1024 to 16777216; 0 means 8192.
	// The file is sparse.
	DiskMiB int
	// Agent is the path of the static binary that becomes /init of the
	// initramfs.
	Agent string
}

// maxPackages bounds a recipe, and with it the command line of mmdebstrap,
// well below ARG_MAX.
const maxPackages = 1000

var (
	// packageName is what Debian policy 5.6.1 allows.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)
	suiteName   = regexp.MustCompile(`^[a-z][a-z0-9-]{1,31}$`)
)

// normal checks a recipe and fills in what it leaves open. Recipes that mean
// the same come out equal.
func (r Recipe) normal() (Recipe, error) {
	if r.Suite == "" {
		r.Suite = "bookworm"
	}
	if r.DiskMiB == 0 {
		r.DiskMiB = 8192
	}
	switch {
	case !suiteName.MatchString(r.Suite):
		return r, fault.New(fault.Invalid, "suite %.40q: not the name of a Debian release", r.Suite)
	case r.DiskMiB < 1024 || r.DiskMiB > 16<<20:
		return r, fault.New(fault.Invalid, "disk %d MiB: not within 1024 to 16777216", r.DiskMiB)
	case len(r.Packages) > maxPackages:
		return r, fault.New(fault.Invalid, "%d packages: at most %d", len(r.Packages), maxPackages)
	}
	for _, p := range r.Packages {
		if !packageName.MatchString(p) {
			return r, fault.New(fault.Invalid, "package %.40q: not a Debian package name", p)
		}
	}
	r.Packages = slices.Compact(slices.Sorted(slices.Values(r.Packages)))
	return r, nil
}

// basePackages is what every machine has: what agents expect, and what makes
// Debian's smallest system a usable machine.
var basePackages = []string{
	"systemd", "systemd-sysv", "dbus", "kmod",
	"sudo", "bash", "procps", "iproute2", "iputils-ping", "less", "nano", "ncurses-bin",
	"python3", "python-is-python3", "git", "curl", "ca-certificates", "openssh-client", "rsync",
	"netbase", "xz-utils", "unzip",
	// A machine resolves its own name, whatever it is called later: sudo asks.
	"libnss-myhostname",
}

var buildPackages = []string{"build-essential", "pkg-config", "python3-dev", "python3-pip", "python3-venv"}

// packages lists all that goes into the disk by name.
func (r Recipe) packages() []string {
	all := slices.Concat(basePackages, r.Packages)
	if r.BuildTools {
		all = append(all, buildPackages...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// revision is part of every key. It counts the changes of how parts are made
// that the keys do not see otherwise.
const revision = 1

// digest returns a name for a combination of values. They must be plain data.
func digest(values ...any) string {
	b, err := json.Marshal(append(values, revision))
	if err != nil {
		panic(err) // plain data always encodes
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.New(fault.Unavailable, "read guest agent: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fault.New(fault.Unavailable, "read guest agent: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
