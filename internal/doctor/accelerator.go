package doctor

import (
	"slices"
	"strings"

	"bulkhead/internal/vmm"
)

// Accelerator chooses what executes guest code on this host. override is
// "kvm" or "tcg" to decide it, anything else to leave it open: then it is KVM
// if that is usable, which takes a /dev/kvm that opens and a CPU that shows
// vmx or svm. boundary says whether hardware stands between guest and host.
// reason is one line for people.
func Accelerator(override string) (accel vmm.Accel, boundary bool, reason string) {
	return accelerator(Local(), override)
}

func accelerator(h Host, override string) (vmm.Accel, bool, string) {
	lack := lackOfKVM(h)
	switch {
	case override == string(vmm.TCG):
		return vmm.TCG, false, noBoundary + "; it was asked for"
	case lack == "":
		return vmm.KVM, true, "KVM: guests run behind a hardware boundary"
	case override == string(vmm.KVM):
		return vmm.KVM, false, "KVM was asked for, but " + lack + ": guests may die, and no hardware boundary is known of"
	}
	return vmm.TCG, false, noBoundary + "; " + lack
}

const noBoundary = "TCG: guests run in a translator, not behind a hardware boundary"

// lackOfKVM says why KVM is not usable, "" if it is. Where /dev/kvm works
// without the CPU's support, it is an emulation on which stock kernels were
// seen to die ("KVM internal error. Suberror: 1").
func lackOfKVM(h Host) string {
	opens := h.Open("/dev/kvm") == nil
	switch {
	case hardware(h) == "" && opens:
		return "the CPU shows neither vmx nor svm, though /dev/kvm opens"
	case hardware(h) == "":
		return "the CPU shows neither vmx nor svm"
	case !opens:
		return "/dev/kvm cannot be opened"
	}
	return ""
}

// hardware returns "vmx", "svm" or "".
func hardware(h Host) string {
	for line := range strings.Lines(h.read("/proc/cpuinfo")) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		// All CPUs have the same.
		for _, f := range []string{"vmx", "svm"} {
			if slices.Contains(strings.Fields(flags), f) {
				return f
			}
		}
		return ""
	}
	return ""
}

func acceleratorCheck(h Host, override string) Check {
	const auto = "run the daemon with --accel auto"
	accel, boundary, reason := accelerator(h, override)
	c := Check{"accelerator", Warn, reason, auto}
	switch flag := hardware(h); {
	case boundary:
		return ok(c.Name, reason)
	case accel == vmm.KVM:
		c.Status = Fail
	case lackOfKVM(h) == "": // TCG although KVM is usable
	case flag == "":
		c.Mend = "use a host with virtualization enabled in its firmware, or a VM that has it nested"
	default:
		c.Mend = "modprobe " + map[string]string{"vmx": "kvm_intel", "svm": "kvm_amd"}[flag]
	}
	return c
}
