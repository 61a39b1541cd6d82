package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"bulkhead/internal/fault"
)

// kernelMeta depends on the newest cloud kernel: no drivers for hardware that
// no microVM has.
const kernelMeta = "linux-image-cloud-amd64"

// kernelDependency matches "linux-image-6.1.0-13-cloud-amd64 (= 6.1.55-1)".
var kernelDependency = regexp.MustCompile(`^(linux-image-[0-9][a-z0-9.+-]*-cloud-amd64) \(= ([0-9][A-Za-z0-9.+~:-]*)\)$`)

// kernel names one kernel package. Both fields are checked: they go into
// command lines and paths.
type kernel struct {
	Package, Version string
}

// release returns what uname -r says when it runs.
func (k kernel) release() string { return strings.TrimPrefix(k.Package, "linux-image-") }

// findKernel asks apt which kernel is current. It needs the package lists,
// not the network.
func findKernel(ctx context.Context) (kernel, error) {
	// show prints the candidate, the version that would be installed.
	out, err := capture(ctx, "apt-cache", "--no-all-versions", "show", kernelMeta)
	var exit *exec.ExitError // apt-cache has nothing to show
	if err != nil && !errors.As(err, &exit) {
		return kernel{}, fmt.Errorf("find current kernel: %w", err)
	}
	if k, ok := parseKernel(out); ok {
		return k, nil
	}
	return kernel{}, fault.New(fault.Unavailable, "apt knows no kernel package %s", kernelMeta).Hint("apt-get update")
}

// parseKernel finds the kernel in what apt-cache shows of kernelMeta.
func parseKernel(show []byte) (kernel, bool) {
	lines := bufio.NewScanner(bytes.NewReader(show))
	for lines.Scan() {
		depends, ok := strings.CutPrefix(lines.Text(), "Depends:")
		if !ok {
			continue
		}
		for d := range strings.SplitSeq(depends, ",") {
			if m := kernelDependency.FindStringSubmatch(strings.TrimSpace(d)); m != nil {
				return kernel{m[1], m[2]}, true
			}
		}
	}
	return kernel{}, false
}

func (k kernel) part() part {
	return part{
		kind: "kernel", key: digest(k),
		steps: []step{{"download kernel " + k.release(), k.download}},
	}
}

// download fetches the package and unpacks it. apt checks its signature.
// Nothing is installed on the host, so no boot loader hears of it.
func (k kernel) download(ctx context.Context, w workspace) error {
	// apt would rather download as user _apt, who may not write here, and
	// complains when it cannot.
	err := w.run(ctx, "apt-get", "-o", "APT::Sandbox::User=root", "download", k.Package+"="+k.Version)
	if err != nil {
		return hint(err, "apt-get update")
	}
	debs, err := filepath.Glob(filepath.Join(w.dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fault.New(fault.Internal, "apt-get brought %d packages, not one", len(debs))
	}
	if err := w.run(ctx, "dpkg-deb", "-x", debs[0], w.dir); err != nil {
		return err
	}
	return os.Remove(debs[0])
}
