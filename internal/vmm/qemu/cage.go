package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/internal/cgroup"
	"bulkhead/internal/jail"
	"bulkhead/internal/jail/root"
	"bulkhead/internal/jail/seccomp"
	"bulkhead/internal/vmm"

	"golang.org/x/sys/unix"
)

const (
	// firmware is what the machine type starts with; QEMU looks for it here
	// (its share folder, beside that of its binary).
	firmware = "/usr/share/qemu/bios-microvm.bin"
	// translator is the module that executes guest code without KVM.
	translator = "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"

	// overhead is what QEMU needs beside a machine's memory and translations,
	// in MiB: 60 to 90 measured, the rest is for the disk's page cache, which
	// the kernel counts here and takes back when it is short.
	overhead = 192
	// ioThreads is how many threads QEMU starts for file I/O at most
	// (thread_pool_init_aio), ownThreads those besides virtual CPUs.
	ioThreads  = 64
	ownThreads = 16
	// ownCPU is what QEMU's own threads may use beside the virtual CPUs.
	ownCPU = 0.5
	// openFiles is far above the 30 that were measured.
	openFiles = 256
	// weight is the same for all: machines share what the host has for machines
	// (see package cgroup) evenly.
	weight = 100

	// Filters is how many lists of system calls a VMM is under: the jail's and
	// the one that QEMU gives itself (-sandbox).
	Filters = 2
)

// Cage is what QEMU may have and do for one machine: all but its command line
// and the sockets that it inherits.
func (d *Driver) Cage(spec vmm.Spec) (jail.Cage, error) {
	largest, err := largestFile(spec)
	if err != nil {
		return jail.Cage{}, err
	}
	memory := int64(spec.MemoryMiB + overhead)
	c := jail.Cage{
		Name: "vmm", Dir: spec.RunDir, Syscalls: d.syscalls(),
		Program: root.Program{Path: d.cfg.Binary, Data: []string{firmware}},
		Files: []jail.File{
			{Host: spec.Memory, Inside: memoryInside, Writable: true},
			{Host: spec.Disk, Inside: diskInside, Writable: true},
			{Host: spec.Kernel, Inside: kernelInside},
			{Host: spec.Initrd, Inside: initrdInside},
		},
	}
	if d.cfg.Accel == vmm.KVM {
		c.Program.Devices = []string{"/dev/kvm"}
	} else {
		c.Program.Modules = []string{translator}
		memory += translations
	}
	c.Limits = jail.Limits{
		FileBytes: largest, OpenFiles: openFiles,
		Group: cgroup.Limits{
			MemoryBytes: memory << 20, CPUWeight: weight, CPUQuota: float64(spec.CPUs) + ownCPU,
			PIDs: spec.CPUs + ioThreads + ownThreads,
		},
	}
	return c, nil
}

// largestFile is the size of the largest file that a VMM writes.
func largestFile(spec vmm.Spec) (most int64, err error) {
	for _, path := range []string{spec.Memory, spec.Disk} {
		fi, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		most = max(most, fi.Size())
	}
	return most, nil
}

// syscalls are those that QEMU 7.2 makes in a life of boots, restores, disk
// and channel traffic, snapshots and ends (traced), and their neighbours,
// which another version of it or of its libraries may choose instead.
func (d *Driver) syscalls() seccomp.List {
	s := seccomp.List{
		Allow: strings.Fields(`
			execve arch_prctl brk mmap munmap mprotect mremap madvise msync membarrier
			set_tid_address set_robust_list get_robust_list rseq futex clone exit exit_group
			gettid getpid getppid getuid geteuid getgid getegid tgkill sched_yield sched_getaffinity
			rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack signalfd4 restart_syscall
			prlimit64 getrlimit prctl seccomp uname sysinfo getrandom getrusage times
			openat open access faccessat faccessat2 close stat fstat lstat newfstatat statx statfs fstatfs
			readlink readlinkat getcwd chdir fchdir getdents64 lseek fcntl dup dup2 dup3 pipe2
			read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
			fallocate fdatasync fsync ftruncate fadvise64 sync_file_range copy_file_range
			poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
			eventfd2 timerfd_create timerfd_settime timerfd_gettime
			nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time
			listen accept4 accept getsockname getpeername getsockopt setsockopt shutdown
			sendmsg recvmsg sendto recvfrom ioctl`),
		// What is asked of and told to the tap about the form of packets.
		Ioctls: []uint32{
			unix.TUNGETFEATURES, unix.TUNGETIFF, unix.TUNSETOFFLOAD, unix.TUNGETSNDBUF, unix.TUNSETSNDBUF,
			unix.TUNGETVNETHDRSZ, unix.TUNSETVNETHDRSZ, unix.TUNSETVNETLE, unix.TUNSETVNETBE,
		},
		Absent: strings.Fields(`clone3 io_uring_setup memfd_create get_mempolicy set_mempolicy mbind`),
	}
	if d.cfg.Accel == vmm.KVM {
		s.Ioctls = nil // how KVM is spoken to
	}
	return s
}

// listen makes the sockets of a machine, in their order. They are made by us,
// in a folder that is ours alone, so nobody else reaches them.
func listen(runDir string) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	for _, name := range sockets() {
		path := filepath.Join(runDir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return files, fmt.Errorf("remove old socket: %w", err)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			return files, fmt.Errorf("make socket: %w", err)
		}
		l.SetUnlinkOnClose(false)
		f, err := l.File()
		if err := errors.Join(err, l.Close()); err != nil {
			return files, fmt.Errorf("make socket: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
