package doctor_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"bulkhead/internal/doctor"
	"bulkhead/internal/vmm"

	"github.com/google/go-cmp/cmp"
)

// machine is a host made of texts, which tests change before they look.
type machine struct {
	doctor.Host
	files   map[string]string
	missing map[string]bool // devices and programs
	free    map[string]int64
	lock    string
}

// healthy returns a host without a fault.
func healthy() *machine {
	m := &machine{
		files: map[string]string{
			"/proc/cpuinfo":                               "processor\t: 0\nflags\t\t: fpu vmx sse\n\nprocessor\t: 1\nflags\t\t: fpu vmx sse\n",
			"/proc/sys/kernel/osrelease":                  "6.1.0-13-amd64\n",
			"/proc/sys/user/max_user_namespaces":          "96365\n",
			"/proc/sys/kernel/seccomp/actions_avail":      "kill_process kill_thread trap errno user_notif trace log allow\n",
			"/proc/self/mounts":                           "/dev/vda / ext4 rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
			"/sys/fs/cgroup/cgroup.controllers":           "cpuset cpu io memory pids\n",
			"/proc/filesystems":                           "nodev\tproc\n\text4\n\txfs\n",
			"/proc/meminfo":                               "MemTotal:       16777216 kB\nMemFree:         1000 kB\nMemAvailable:    8388608 kB\n",
			"/proc/swaps":                                 "Filename\tType\tSize\tUsed\tPriority\n",
			"/sys/kernel/mm/ksm/run":                      "0\n",
			"/sys/devices/system/cpu/smt/active":          "0\n",
			"/var/lib/apt/lists/mirror_bookworm_Packages": "",
			"/var/lib/bulkhead/lock":                      "4711\n",
		},
		missing: map[string]bool{},
		free:    map[string]int64{},
	}
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		m.files["/proc/self/ns/"+kind] = ""
	}
	m.Open = func(path string) error {
		if m.missing[path] {
			return fs.ErrNotExist
		}
		return nil
	}
	m.Installed = func(program string) bool { return !m.missing[program] }
	m.Free = func(dir string) (int64, error) {
		if free, ok := m.free[dir]; ok {
			return free, nil
		}
		return 100 << 30, nil
	}
	m.Reflink = func(string) error { return nil }
	m.Locked = func(path string) bool { return path == m.lock }
	m.Pidfd = func() error { return nil }
	m.Nftables = func() error { return nil }
	return m
}

func (m *machine) examine(accel string) []doctor.Check {
	tree := fstest.MapFS{}
	for path, text := range m.files {
		tree[strings.TrimPrefix(path, "/")] = &fstest.MapFile{Data: []byte(text)}
	}
	m.Files = tree
	return doctor.Examine(m.Host, doctor.Options{
		StateDir: "/var/lib/bulkhead", CacheDir: "/var/cache/bulkhead", Accel: accel,
		Tools: []doctor.Tool{{"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}},
	})
}

func TestHealthyHost(t *testing.T) {
	want := []doctor.Check{
		{"user", doctor.OK, "root", ""},
		{"accelerator", doctor.OK, "KVM: guests run behind a hardware boundary", ""},
		{"kernel", doctor.OK, "6.1.0-13-amd64", ""},
		{"namespaces", doctor.OK, "mount, PID, network, IPC, UTS, cgroup, user", ""},
		{"seccomp", doctor.OK, "filters", ""},
		{"pidfd", doctor.OK, "processes can be held by descriptors", ""},
		{"cgroups", doctor.OK, "v2 with memory, cpu, pids, blkio, freezer", ""},
		{"devices", doctor.OK, "tun, loop", ""},
		{"nf_tables", doctor.OK, "kernel answers", ""},
		{"programs", doctor.OK, "all 5 are installed", ""},
		{"package lists", doctor.OK, "1", ""},
		{"pool", doctor.OK, "/var/lib/bulkhead has reflinks", ""},
		{"disk", doctor.OK, "100.0 GiB free for /var/lib/bulkhead", ""},
		{"memory", doctor.OK, "8.0 GiB available of 16.0 GiB", ""},
		{"side channels", doctor.OK, "KSM and SMT are off", ""},
		{"swap", doctor.OK, "off", ""},
		{"daemon", doctor.OK, "none on /var/lib/bulkhead", ""},
	}
	if diff := cmp.Diff(want, healthy().examine("auto")); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

const v1Mounts = `cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup /sys/fs/cgroup/blkio cgroup rw,relatime,blkio 0 0
`

// Each host has one thing that is not as it should be, and shows it in one
// check alone.
func TestFindings(t *testing.T) {
	noReflinks := func(string) error { return errors.ErrUnsupported }
	for name, tt := range map[string]struct {
		change func(*machine)
		accel  string
		want   doctor.Check
	}{
		"not root": {func(m *machine) { m.UID = 1000 }, "",
			doctor.Check{"user", doctor.Fail, "not root: some of what follows cannot be seen", "sudo bulkhead doctor"}},

		"kvm without virtualization": {func(m *machine) { m.files["/proc/cpuinfo"] = "flags\t: fpu hypervisor\n" }, "",
			doctor.Check{"accelerator", doctor.Warn,
				"TCG: guests run in a translator, not behind a hardware boundary; the CPU shows neither vmx nor svm, though /dev/kvm opens",
				"use a host with virtualization enabled in its firmware, or a VM that has it nested"}},
		"kvm module missing": {func(m *machine) { m.missing["/dev/kvm"] = true; m.files["/proc/cpuinfo"] = "flags\t: svm\n" }, "",
			doctor.Check{"accelerator", doctor.Warn,
				"TCG: guests run in a translator, not behind a hardware boundary; /dev/kvm cannot be opened", "modprobe kvm_amd"}},
		"kvm asked for in vain": {func(m *machine) { m.files["/proc/cpuinfo"] = "" }, "kvm",
			doctor.Check{"accelerator", doctor.Fail,
				"KVM was asked for, but the CPU shows neither vmx nor svm, though /dev/kvm opens: guests may die, and no hardware boundary is known of",
				"run the daemon with --accel auto"}},
		"tcg asked for without need": {func(*machine) {}, "tcg",
			doctor.Check{"accelerator", doctor.Warn,
				"TCG: guests run in a translator, not behind a hardware boundary; it was asked for", "run the daemon with --accel auto"}},

		"old kernel": {func(m *machine) { m.files["/proc/sys/kernel/osrelease"] = "5.9.16-generic" }, "",
			doctor.Check{"kernel", doctor.Fail, "5.9.16-generic is older than 5.10", "apt-get install linux-image-amd64, then reboot"}},
		"no proc": {func(m *machine) { m.files["/proc/sys/kernel/osrelease"] = "?" }, "",
			doctor.Check{"kernel", doctor.Fail, "version unknown: /proc cannot be read", "mount -t proc proc /proc"}},
		"namespaces missing": {func(m *machine) {
			delete(m.files, "/proc/self/ns/user")
			delete(m.files, "/proc/self/ns/cgroup")
		}, "", doctor.Check{"namespaces", doctor.Fail, "kernel lacks cgroup, user", "apt-get install linux-image-amd64, then reboot"}},
		"user namespaces off": {func(m *machine) { m.files["/proc/sys/user/max_user_namespaces"] = "0\n" }, "",
			doctor.Check{"namespaces", doctor.Fail, "user namespaces are switched off", "sysctl -w user.max_user_namespaces=10000"}},
		"no seccomp": {func(m *machine) { delete(m.files, "/proc/sys/kernel/seccomp/actions_avail") }, "",
			doctor.Check{"seccomp", doctor.Fail, "kernel has no seccomp filters with kill_process", "apt-get install linux-image-amd64, then reboot"}},
		"no pidfd": {func(m *machine) { m.Pidfd = func() error { return errors.ErrUnsupported } }, "",
			doctor.Check{"pidfd", doctor.Fail, "processes cannot be held by descriptors: unsupported operation", "apt-get install linux-image-amd64, then reboot"}},

		"cgroups v1": {func(m *machine) {
			m.files["/proc/self/mounts"] = v1Mounts + "cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n"
		}, "", doctor.Check{"cgroups", doctor.OK, "v1 with memory, cpu, pids, blkio, freezer", ""}},
		"cgroups v1 without freezer": {func(m *machine) { m.files["/proc/self/mounts"] = v1Mounts }, "",
			doctor.Check{"cgroups", doctor.Fail, "v1 without freezer", "apt-get install linux-image-amd64, then reboot"}},
		"cgroups hybrid": {func(m *machine) {
			m.files["/proc/self/mounts"] = v1Mounts + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
			m.files["/sys/fs/cgroup/unified/cgroup.controllers"] = "\n"
		}, "", doctor.Check{"cgroups", doctor.OK, "v1 and v2 (hybrid) with memory, cpu, pids, blkio, freezer", ""}},
		"no memory controller": {func(m *machine) { m.files["/sys/fs/cgroup/cgroup.controllers"] = "cpu io pids" }, "",
			doctor.Check{"cgroups", doctor.Fail, "v2 without memory", "add cgroup_enable=memory to the kernel's command line, then reboot"}},
		"no cgroups": {func(m *machine) { m.files["/proc/self/mounts"] = "odd line\n" }, "",
			doctor.Check{"cgroups", doctor.Fail, "not mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"}},

		"no tun": {func(m *machine) { m.missing["/dev/net/tun"] = true }, "",
			doctor.Check{"devices", doctor.Fail, "no /dev/net/tun: file does not exist", "modprobe tun"}},
		"no loop": {func(m *machine) { m.missing["/dev/loop-control"] = true }, "",
			doctor.Check{"devices", doctor.Fail, "no /dev/loop-control: file does not exist", "modprobe loop"}},
		"no nftables": {func(m *machine) { m.Nftables = func() error { return errors.ErrUnsupported } }, "",
			doctor.Check{"nf_tables", doctor.Fail, "kernel has no nftables: unsupported operation", "modprobe nf_tables"}},

		"programs missing": {func(m *machine) {
			m.missing["mkfs.xfs"], m.missing["xfs_growfs"], m.missing["mmdebstrap"] = true, true, true
		}, "", doctor.Check{"programs", doctor.Fail, "not installed: mkfs.xfs, xfs_growfs, mmdebstrap",
			"apt-get install --no-install-recommends mmdebstrap xfsprogs"}},
		"no package lists": {func(m *machine) { delete(m.files, "/var/lib/apt/lists/mirror_bookworm_Packages") }, "",
			doctor.Check{"package lists", doctor.Warn, "none: templates cannot be built", "apt-get update"}},

		"no reflinks": {func(m *machine) { m.Reflink = noReflinks }, "",
			doctor.Check{"pool", doctor.OK, "/var/lib/bulkhead has no reflinks: an XFS file will be loop-mounted", ""}},
		"no reflinks, XFS as a module": {func(m *machine) {
			m.Reflink = noReflinks
			m.files["/proc/filesystems"] = "\text4\n"
			m.files["/lib/modules/6.1.0-13-amd64/modules.dep"] = "kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\n"
		}, "", doctor.Check{"pool", doctor.OK, "/var/lib/bulkhead has no reflinks: an XFS file will be loop-mounted", ""}},
		"no reflinks, no XFS": {func(m *machine) { m.Reflink = noReflinks; m.files["/proc/filesystems"] = "\text4\n" }, "",
			doctor.Check{"pool", doctor.Fail, "/var/lib/bulkhead has no reflinks, and the kernel no XFS for a loop-mounted file", "modprobe xfs"}},

		"little disk": {func(m *machine) { m.free["/var/lib/bulkhead"] = 5 << 30 }, "",
			doctor.Check{"disk", doctor.Warn, "5.0 GiB free for /var/lib/bulkhead, enough for a few sandboxes", "make room, 10.0 GiB or more"}},
		"little disk, less cache": {func(m *machine) {
			m.free["/var/lib/bulkhead"] = 5 << 30
			m.free["/var"] = 1 << 30 // where the cache will be
		}, "", doctor.Check{"disk", doctor.Fail, "1.0 GiB free for /var/cache/bulkhead, too little for a template", "make room, at least 3.0 GiB"}},
		"little memory": {func(m *machine) { m.files["/proc/meminfo"] = "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n" }, "",
			doctor.Check{"memory", doctor.Warn, "1.0 GiB available of 2.0 GiB, enough for a few sandboxes", "end other programs, or use a larger host"}},
		"no memory": {func(m *machine) { m.files["/proc/meminfo"] = "MemTotal: x kB\n" }, "",
			doctor.Check{"memory", doctor.Fail, "0.0 GiB available of 0.0 GiB, too little for a sandbox", "end other programs, or use a larger host"}},

		"same-page merging": {func(m *machine) { m.files["/sys/kernel/mm/ksm/run"] = "1\n" }, "",
			doctor.Check{"side channels", doctor.Warn, "KSM merges equal pages: a guest can tell by time what others have in memory", "echo 2 > /sys/kernel/mm/ksm/run"}},
		"hyperthreads": {func(m *machine) { m.files["/sys/devices/system/cpu/smt/active"] = "1\n" }, "",
			doctor.Check{"side channels", doctor.Warn, "SMT is on: guests on sibling threads share caches", "echo off > /sys/devices/system/cpu/smt/control"}},
		"swap": {func(m *machine) { m.files["/proc/swaps"] += "/dev/sda2 partition 1 0 -2\n" }, "",
			doctor.Check{"swap", doctor.Warn, "on: what is in memory may get to the disk and stay there", "swapoff -a"}},
		"a daemon": {func(m *machine) { m.lock = "/var/lib/bulkhead/lock" }, "",
			doctor.Check{"daemon", doctor.OK, "process 4711 serves /var/lib/bulkhead", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			usual := healthy().examine("auto")
			m := healthy()
			tt.change(m)
			for i, got := range m.examine(tt.accel) {
				want := usual[i]
				if got.Name == tt.want.Name {
					want = tt.want
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", want.Name, diff)
				}
			}
		})
	}
}

func TestAccelerator(t *testing.T) {
	accel, boundary, reason := doctor.Accelerator("tcg")
	if accel != vmm.TCG || boundary || !strings.Contains(reason, "not behind a hardware boundary") {
		t.Errorf("asked for tcg: %s, %t, %s", accel, boundary, reason)
	}
	accel, _, reason = doctor.Accelerator("kvm")
	if accel != vmm.KVM || reason == "" {
		t.Errorf("asked for kvm: %s, %s", accel, reason)
	}
	// Whatever this host has, only KVM is a boundary.
	accel, boundary, reason = doctor.Accelerator("auto")
	if (accel == vmm.KVM) != boundary || reason == "" {
		t.Errorf("chosen: %s, %t, %s", accel, boundary, reason)
	}
}

// The real host is whatever it is, but every check has to say something, and
// this one must at least be able to run the other tests.
func TestLocal(t *testing.T) {
	for _, c := range doctor.Examine(doctor.Local(), doctor.Options{StateDir: t.TempDir(), CacheDir: "/var/cache/bulkhead"}) {
		t.Logf("%-14s %-4s %s [%s]", c.Name, c.Status, c.Detail, c.Mend)
		if c.Detail == "" || (c.Status == doctor.Fail) && c.Mend == "" {
			t.Errorf("%+v says too little", c)
		}
		switch c.Name {
		case "kernel", "namespaces", "seccomp", "pidfd", "cgroups", "memory":
			if c.Status == doctor.Fail {
				t.Errorf("%s: %s", c.Name, c.Detail)
			}
		}
	}
}

func TestLocalSeesADaemon(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("4711\n"); err != nil {
		t.Fatal(err)
	}
	found := func() string {
		checks := doctor.Examine(doctor.Local(), doctor.Options{StateDir: dir, CacheDir: dir})
		return checks[len(checks)-1].Detail
	}
	if got, want := found(), "none on "+dir; got != want {
		t.Errorf("without a lock: %q, want %q", got, want)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got, want := found(), "process 4711 serves "+dir; got != want {
		t.Errorf("with a lock: %q, want %q", got, want)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("something was left: %v, %v", entries, err)
	}
}

func TestCheckAsJSON(t *testing.T) {
	b, err := json.Marshal(doctor.Check{Name: "swap", Status: doctor.OK, Detail: "off"})
	if got, want := string(b), `{"name":"swap","status":"ok","detail":"off"}`; err != nil || got != want {
		t.Errorf("JSON %s, want %s: %v", got, want, err)
	}
}
