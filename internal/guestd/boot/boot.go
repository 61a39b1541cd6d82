// Package boot is what the guest's kernel starts first: /init of the
// initramfs. It loads the drivers, mounts the root disk, lays the agent and
// its systemd unit under /run, and gives way to the image's own init. An image
// without one gets the agent itself as process 1.
//
// boot changes nothing on the root disk: what it adds is in memory, so any
// image gets the agent of this release. It runs once, alone.
package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	newRoot  = "/newroot"
	rootDisk = "/dev/vda"
	// diskWait bounds the wait for the disk to appear after its driver.
	diskWait = 10 * time.Second

	// AgentPath is where the agent lies in a running guest.
	AgentPath = runDir + "/" + agentName
	agentName = "bulkhead/bulkhead-guest"
	runDir    = "/run"
	unitName  = "bulkhead-guest.service"
)

// unit starts the agent before everything else and keeps it: the host has no
// other way in, so systemd must not give up on it either (systemd.unit(5),
// StartLimitIntervalSec). It has a slice of its own, beside everything that is
// frozen.
const unit = `[Unit]
Description=Bulkhead guest agent
DefaultDependencies=no
IgnoreOnIsolate=yes
Before=sysinit.target
StartLimitIntervalSec=0

[Service]
ExecStart=` + AgentPath + `
Slice=bulkhead.slice
Delegate=yes
Restart=always
RestartSec=100ms
KillMode=process
OOMScoreAdjust=-999
StandardOutput=journal+console
`

// Run boots the machine. It returns only with an error.
func Run() error {
	if err := mountAll([]mount{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", runDir, unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	}); err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	if err := mountDisk(); err != nil {
		return err
	}
	if err := layAgent(runDir); err != nil {
		return fmt.Errorf("lay agent: %w", err)
	}
	if err := switchRoot(); err != nil {
		return fmt.Errorf("switch to root disk: %w", err)
	}
	for _, init := range []string{"/sbin/init", "/lib/systemd/systemd"} {
		if err := unix.Exec(init, []string{init}, os.Environ()); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("start %s: %w", init, err)
		}
	}
	if err := mountAll(bare()); err != nil {
		return err
	}
	return unix.Exec(AgentPath, []string{AgentPath}, os.Environ())
}

// mount is a file system of the kernel's. It is its own source.
type mount struct {
	fstype, target string
	flags          uintptr
	data           string
}

// bare returns what the agent and the programs that it starts need, and an init
// would have mounted.
func bare() []mount {
	return []mount{
		{"cgroup2", "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"}, // gid of tty
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// loadModules loads every driver, in the order of their names.
func loadModules(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// mountDisk mounts the root disk. discard tells the host which blocks are
// free again, which keeps snapshots small.
func mountDisk() error {
	deadline := time.Now().Add(diskWait)
	for {
		err := unix.Mount(rootDisk, newRoot, "ext4", 0, "discard")
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENXIO) || time.Now().After(deadline) {
			return fmt.Errorf("mount root disk: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// layAgent copies ourselves and the unit to run, which moves to the new root.
func layAgent(run string) error {
	agent, units := filepath.Join(run, agentName), filepath.Join(run, "systemd/system")
	wants := filepath.Join(units, "sysinit.target.wants")
	for _, dir := range []string{filepath.Dir(agent), wants} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(agent, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(),
		os.WriteFile(filepath.Join(units, unitName), []byte(unit), 0o644),
		os.Symlink("../"+unitName, filepath.Join(wants, unitName)))
}

// switchRoot makes the root disk the root, as switch_root(8) does, and frees
// the memory of the initramfs.
func switchRoot() error {
	for _, dir := range []string{"/init", "/modules"} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := os.MkdirAll(newRoot+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	return errors.Join(unix.Chdir(newRoot), unix.Mount(".", "/", "", unix.MS_MOVE, ""),
		unix.Chroot("."), unix.Chdir("/"))
}

// Fail says on the console why the machine cannot boot, and ends it.
func Fail(err error) {
	fmt.Fprintf(os.Stderr, "bulkhead: boot: %v\n", err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
