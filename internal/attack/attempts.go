package attack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The walls that attempts name: errors, the filter, or a limit.
const (
	nothingThere = "ENOENT" // the root has nothing but the program's own
	readOnly     = "EROFS"  // the root cannot be changed
	noRight      = "EPERM"
)

func filtered(syscall string) string { return byFilter + ": " + syscall }

// attempts lists everything that is tried.
func attempts() []attempt {
	return slices.Concat(onFiles(), onProcesses(), onPrivileges(), onKernel(), onNetwork(), onLimits())
}

// read opens a file as an attacker would.
func read(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func onFiles() []attempt {
	return []attempt{
		{"read the host's password hashes", nothingThere, func(t target) error { return read(t.Secret) }},
		{"read them by going up", nothingThere, func(t target) error {
			return read(strings.Repeat("../", 64) + strings.TrimPrefix(t.Secret, "/"))
		}},
		{"read another sandbox's memory", nothingThere, func(t target) error { return read(t.Other) }},
		{"list the daemon's state", nothingThere, func(t target) error { return read(t.Folder) }},
		{"read our own memory by /proc/self/mem", nothingThere, func(target) error { return read("/proc/self/mem") }},
		{"reopen the program by /proc/self/exe", nothingThere, func(target) error { return read("/proc/self/exe") }},
		{"leave by /proc/self/fd", nothingThere, func(target) error { return read("/proc/self/fd") }},
		{"leave by /proc/self/root", nothingThere, func(target) error { return read("/proc/self/root") }},
		{"find devices in /dev", nothingThere, func(target) error { return read("/dev/null") }},
		{"find the kernel's settings in /sys", nothingThere, func(target) error { return read("/sys/kernel") }},
		{"open a file by its number, without a path", filtered("name_to_handle_at"), func(t target) error {
			h, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, t.File, 0)
			if err != nil {
				return err
			}
			_ = mount
			at, err := unix.Open(filepath.Dir(t.File), unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			_, err = unix.OpenByHandleAt(at, h, unix.O_RDONLY)
			return err
		}},
		{"put a file beside our own", readOnly, func(t target) error {
			path := filepath.Join(t.Scratch, "new")
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
			if err == nil {
				unix.Close(fd)
				unix.Unlink(path)
			}
			return err
		}},
		{"plant a symbolic link for the daemon", filtered("symlinkat"), func(t target) error {
			path := filepath.Join(t.Scratch, "link")
			defer os.Remove(path)
			return unix.Symlinkat(t.Secret, unix.AT_FDCWD, path)
		}},
		{"plant a hard link for the daemon", filtered("linkat"), func(t target) error {
			path := filepath.Join(t.Scratch, "hard")
			defer os.Remove(path)
			return unix.Linkat(unix.AT_FDCWD, t.File, unix.AT_FDCWD, path, 0)
		}},
		{"make a device node of the first disk", filtered("mknodat"), func(t target) error {
			path := filepath.Join(t.Scratch, "disk0")
			defer os.Remove(path)
			return unix.Mknodat(unix.AT_FDCWD, path, unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
		}},
		{"make our file somebody else's", filtered("fchownat"), func(t target) error {
			return unix.Fchownat(unix.AT_FDCWD, t.File, 12345, 12345, 0)
		}},
		{"make our file executable and setuid", filtered("fchmodat"), func(t target) error {
			return unix.Fchmodat(unix.AT_FDCWD, t.File, 0o4755, 0)
		}},
	}
}

func onProcesses() []attempt {
	return []attempt{
		{"list the host's processes", nothingThere, func(target) error { return read("/proc") }},
		{"signal a process of the host", filtered("kill"), func(t target) error { return unix.Kill(t.PID, 0) }},
		{"signal it by its thread", "ESRCH", func(t target) error { return unix.Tgkill(t.PID, t.PID, 0) }},
		{"take hold of it", filtered("pidfd_open"), func(t target) error {
			_, err := unix.PidfdOpen(t.PID, 0)
			return err
		}},
		{"trace it", filtered("ptrace"), func(t target) error { return unix.PtraceSeize(t.PID) }},
		{"read its memory", filtered("process_vm_readv"), func(t target) error {
			b := make([]byte, 1)
			_, err := unix.ProcessVMReadv(t.PID, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 1, Len: 1}}, 0)
			if err == unix.EFAULT { // it may, but there is nothing at that address
				return nil
			}
			return err
		}},
		{"run a shell", nothingThere, func(target) error { return unix.Access("/bin/sh", unix.X_OK) }},
		{"start a process", filtered("clone"), func(target) error {
			pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
			if errno != 0 {
				return errno
			}
			if pid == 0 {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return nil
		}},
	}
}

func onPrivileges() []attempt {
	none := func(_, _ uintptr, errno syscall.Errno) error {
		if errno != 0 {
			return errno
		}
		return nil
	}
	return []attempt{
		{"become user 0", filtered("setresuid"), func(target) error { return none(syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)) }},
		{"become group 0", filtered("setresgid"), func(target) error { return none(syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)) }},
		{"take capabilities", filtered("capset"), func(target) error {
			data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
			return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		}},
		{"make ourselves traceable", filtered("prctl"), func(target) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		{"make a user namespace", filtered("unshare"), func(target) error {
			return none(syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWNET, 0, 0))
		}},
		{"enter the host's namespaces", filtered("setns"), func(t target) error {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/uts", t.PID), unix.O_RDONLY, 0)
			if err != nil {
				fd = 0 // there is none to open: any descriptor shows who judges
			}
			return unix.Setns(fd, unix.CLONE_NEWUTS)
		}},
		{"mount something", filtered("mount"), func(t target) error {
			err := unix.Mount("none", t.Scratch, "tmpfs", 0, "size=4k")
			if err == nil {
				unix.Unmount(t.Scratch, unix.MNT_DETACH)
			}
			return err
		}},
		{"make the root writable again", filtered("mount_setattr"), func(t target) error {
			return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{})
		}},
		{"copy a mount", filtered("open_tree"), func(t target) error {
			_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
			return err
		}},
		{"change the root", filtered("chroot"), func(t target) error { return unix.Chroot("/") }},
		{"change the host's name", filtered("sethostname"), func(target) error {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				return err
			}
			return unix.Sethostname([]byte(unix.ByteSliceToString(u.Nodename[:]))) // as it is
		}},
	}
}

func onKernel() []attempt {
	// A call that is allowed answers with what is wrong with its arguments.
	allowed := func(err error, with ...error) error {
		if slices.Contains(with, err) {
			return nil
		}
		return err
	}
	raw := func(number uintptr, args ...uintptr) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
	return []attempt{
		{"load a kernel module", filtered("finit_module"), func(target) error {
			return allowed(unix.FinitModule(-1, "", 0), unix.EBADF)
		}},
		{"load another kernel", filtered("kexec_file_load"), func(target) error {
			return allowed(raw(unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0)), unix.EBADF)
		}},
		{"load a program into the kernel (bpf)", filtered("bpf"), func(target) error {
			return allowed(raw(unix.SYS_BPF, 5 /* BPF_PROG_LOAD */, 0, 0), unix.EINVAL, unix.EFAULT, unix.E2BIG)
		}},
		{"handle our own page faults", filtered("userfaultfd"), func(target) error { return raw(unix.SYS_USERFAULTFD, 0) }},
		{"queue system calls past the filter (io_uring)", "ENOSYS", func(target) error {
			return allowed(raw(unix.SYS_IO_URING_SETUP, 0, 0), unix.EINVAL, unix.EFAULT)
		}},
		{"use the kernel's keys", filtered("keyctl"), func(target) error {
			_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
			return err
		}},
		{"measure the host (perf)", filtered("perf_event_open"), func(target) error {
			return allowed(raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, ^uintptr(0), 0), unix.EFAULT, unix.EINVAL)
		}},
		{"read the kernel's log", filtered("syslog"), func(target) error {
			_, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
			return err
		}},
		{"restart the host", filtered("reboot"), func(target) error { // with a wrong magic number
			return allowed(raw(unix.SYS_REBOOT, 0, 0, 0), unix.EINVAL)
		}},
		{"set the host's clock", filtered("clock_settime"), func(target) error { // of no clock
			return allowed(raw(unix.SYS_CLOCK_SETTIME, 99, 0), unix.EINVAL, unix.EFAULT)
		}},
		{"swap to a file", filtered("swapon"), func(t target) error {
			return allowed(raw(unix.SYS_SWAPON, 0, 0), unix.EFAULT)
		}},
		{"use the other calling convention", filtered("1073741863"), func(target) error { // x32 getpid
			return allowed(raw(0x40000000|unix.SYS_GETPID), unix.ENOSYS)
		}},
	}
}

func onNetwork() []attempt {
	open := func(family, kind, proto int) func(target) error {
		return func(target) error {
			_, err := unix.Socket(family, kind, proto)
			return err
		}
	}
	connect := func(a func(target) unix.Sockaddr, family, kind int) func(target) error {
		return func(t target) error {
			fd, err := unix.Socket(family, kind, 0)
			if err != nil {
				return err
			}
			return unix.Connect(fd, a(t))
		}
	}
	return []attempt{
		{"open a raw socket", filtered("socket"), open(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"open a socket for whole frames", filtered("socket"), open(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"open a netlink socket", filtered("socket"), open(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)},
		{"open a socket to the kernel's ciphers", filtered("socket"), open(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
		{"reach the daemon's socket", filtered("socket"), connect(func(t target) unix.Sockaddr {
			return &unix.SockaddrUnix{Name: t.Socket}
		}, unix.AF_UNIX, unix.SOCK_STREAM)},
		{"reach a socket without a file", filtered("socket"), connect(func(t target) unix.Sockaddr {
			return &unix.SockaddrUnix{Name: t.Abstract}
		}, unix.AF_UNIX, unix.SOCK_STREAM)},
		{"reach the host's loopback", filtered("socket"), connect(func(t target) unix.Sockaddr {
			return &unix.SockaddrInet4{Port: t.Port, Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}
		}, unix.AF_INET, unix.SOCK_STREAM)},
		// To connect such a socket sends nothing: it asks for the way only. The
		// address is nobody's (RFC 5737).
		{"find a way to the gateway", filtered("socket"), connect(func(target) unix.Sockaddr {
			return &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}
		}, unix.AF_INET, unix.SOCK_DGRAM)},
	}
}

func onLimits() []attempt {
	return []attempt{
		{"allow ourselves core dumps", filtered("prlimit64"), func(target) error {
			return unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 4096, Max: 4096}, nil)
		}},
		{"write a file past its limit", "EFBIG", func(t target) error {
			fd, err := unix.Open(t.File, unix.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = unix.Pwrite(fd, []byte("x"), fileLimit)
			return err
		}},
		{"start more threads than allowed", "processes", func(target) error { return threads(processLimit + 10) }},
		{"take more memory than allowed", "memory", func(target) error { return hold(memoryLimit + 64<<20) }},
	}
}

// The limits that a cage must not be above for the attempts to be stopped.
const (
	fileLimit    = 1 << 30
	processLimit = 120
	memoryLimit  = 600 << 20 // QEMU's for the smallest machine is 512 MiB
)

// threads starts so many at once. The runtime ends the process if the kernel
// gives it no more.
func threads(n int) error {
	var all, started sync.WaitGroup
	stop := make(chan struct{})
	for range n {
		started.Add(1)
		all.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-stop
		})
	}
	started.Wait()
	close(stop)
	all.Wait()
	return nil
}

// hold takes memory and touches every page of it.
func hold(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return unix.Munmap(b)
}
