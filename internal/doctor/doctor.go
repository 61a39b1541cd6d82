// Package doctor says whether a host is fit for Bulkhead, and how to mend what
// is not.
//
// Every check is a pure function of a Host, which answers what the checks ask
// about the machine. doctor changes nothing and needs no daemon; as somebody
// else than root it sees less and says so. It knows of the other parts only
// what they need of a host: it must not import sandbox, server or cli.
//
// It has no state. Its functions may be called at any time.
package doctor

// Status is the outcome of a check.
type Status string

// The outcomes. A host with a Fail is not fit; with a Warn it works, with the
// limits that Detail names.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is one finding.
type Check struct {
	// Name is what was looked at: "accelerator".
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found, in one line of plain words.
	Detail string `json:"detail"`
	// Mend is a command, or a sentence if no command does it; "" if there is
	// nothing to mend.
	Mend string `json:"mend,omitempty"`
}

// Tool is a program that Bulkhead runs.
type Tool struct {
	// Name is the program's, Package the Debian package that brings it.
	Name, Package string
}

// Options says what the host is to be fit for.
type Options struct {
	// StateDir and CacheDir are the daemon's. They need not exist.
	StateDir, CacheDir string
	// Accel is "auto", "kvm" or "tcg", as configured.
	Accel string
	// Tools are programs that are needed besides those that doctor knows of.
	Tools []Tool
}

// Examine runs every check, in the order in which they are to be read.
func Examine(h Host, o Options) []Check {
	return []Check{
		root(h),
		acceleratorCheck(h, o.Accel),
		kernelVersion(h),
		namespaces(h),
		seccomp(h),
		pidfd(h),
		cgroups(h),
		devices(h),
		firewall(h),
		programs(h, o.Tools),
		packageLists(h),
		pool(h, o.StateDir),
		disk(h, o),
		memory(h),
		sidechannels(h),
		swap(h),
		daemon(h, o.StateDir),
	}
}

func ok(name, detail string) Check { return Check{Name: name, Status: OK, Detail: detail} }

func root(h Host) Check {
	if h.UID == 0 {
		return ok("user", "root")
	}
	return Check{"user", Fail, "not root: some of what follows cannot be seen", "sudo bulkhead doctor"}
}
