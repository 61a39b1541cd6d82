package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// newKernel mends what the kernel lacks.
const newKernel = "apt-get install linux-image-amd64, then reboot"

// leastKernel is the first with all that is used: pidfds that can be waited
// for (5.4), and reflinks and cgroups as in Debian 11, the oldest tried.
const leastMajor, leastMinor = 5, 10

func kernelVersion(h Host) Check {
	release := h.read("/proc/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return Check{"kernel", Fail, "version unknown: /proc cannot be read", "mount -t proc proc /proc"}
	}
	if major < leastMajor || major == leastMajor && minor < leastMinor {
		return Check{"kernel", Fail, fmt.Sprintf("%s is older than %d.%d", release, leastMajor, leastMinor), newKernel}
	}
	return ok("kernel", release)
}

func namespaces(h Host) Check {
	var missing []string
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		if !h.exists("/proc/self/ns/" + kind) {
			missing = append(missing, kind)
		}
	}
	switch {
	case missing != nil:
		return Check{"namespaces", Fail, "kernel lacks " + strings.Join(missing, ", "), newKernel}
	case h.read("/proc/sys/user/max_user_namespaces") == "0":
		return Check{"namespaces", Fail, "user namespaces are switched off", "sysctl -w user.max_user_namespaces=10000"}
	}
	return ok("namespaces", "mount, PID, network, IPC, UTS, cgroup, user")
}

func seccomp(h Host) Check {
	actions := strings.Fields(h.read("/proc/sys/kernel/seccomp/actions_avail"))
	for _, needed := range []string{"kill_process", "errno", "allow"} {
		if !slices.Contains(actions, needed) {
			return Check{"seccomp", Fail, "kernel has no seccomp filters with " + needed, newKernel}
		}
	}
	return ok("seccomp", "filters")
}

func pidfd(h Host) Check {
	if err := h.Pidfd(); err != nil {
		return Check{"pidfd", Fail, "processes cannot be held by descriptors: " + err.Error(), newKernel}
	}
	return ok("pidfd", "processes can be held by descriptors")
}

// cgroups looks for the controllers that limit a VMM, in whichever version of
// cgroups each is mounted.
func cgroups(h Host) Check {
	v1, v2 := controllers(h)
	layout := "none"
	switch {
	case len(v1) > 0 && v2 != nil:
		layout = "v1 and v2 (hybrid)"
	case len(v1) > 0:
		layout = "v1"
	case v2 != nil:
		layout = "v2"
	}
	// In v2 blkio is called io, and freezing needs no controller.
	var missing []string
	for _, c := range []struct{ v1, v2 string }{{"memory", "memory"}, {"cpu", "cpu"}, {"pids", "pids"}, {"blkio", "io"}} {
		if !slices.Contains(v1, c.v1) && !slices.Contains(v2, c.v2) {
			missing = append(missing, c.v1)
		}
	}
	if v2 == nil && !slices.Contains(v1, "freezer") {
		missing = append(missing, "freezer")
	}
	if len(missing) == 0 {
		return ok("cgroups", layout+" with memory, cpu, pids, blkio, freezer")
	}
	c := Check{"cgroups", Fail, fmt.Sprintf("%s without %s", layout, strings.Join(missing, ", ")), newKernel}
	switch {
	case layout == "none":
		c.Detail, c.Mend = "not mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
	case slices.Contains(missing, "memory"):
		c.Mend = "add cgroup_enable=memory to the kernel's command line, then reboot"
	}
	return c
}

// controllers returns the controllers that are mounted as v1, and those of the
// v2 tree; v2 is nil if that is not mounted.
func controllers(h Host) (v1, v2 []string) {
	for line := range strings.Lines(h.read("/proc/self/mounts")) {
		f := strings.Fields(line) // device, folder, type, options: fstab(5)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "cgroup":
			v1 = append(v1, strings.Split(f[3], ",")...)
		case "cgroup2":
			v2 = append([]string{}, strings.Fields(h.read(f[1]+"/cgroup.controllers"))...)
		}
	}
	return v1, v2
}

// devices looks at what the kernel lends by device files.
func devices(h Host) Check {
	for _, d := range []struct{ path, module string }{{"/dev/net/tun", "tun"}, {"/dev/loop-control", "loop"}} {
		if err := h.Open(d.path); err != nil {
			return Check{"devices", Fail, "no " + d.path + ": " + err.Error(), "modprobe " + d.module}
		}
	}
	return ok("devices", "tun, loop")
}

func firewall(h Host) Check {
	if err := h.Nftables(); err != nil {
		return Check{"nf_tables", Fail, "kernel has no nftables: " + err.Error(), "modprobe nf_tables"}
	}
	return ok("nf_tables", "kernel answers")
}
