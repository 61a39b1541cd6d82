// Package boot is process 1 of a guest. The kernel starts it as /init of the
// initramfs: it loads the drivers, mounts the root disk, lays the agent and
// its systemd unit under /run, and gives way to the image's systemd. In an
// image without systemd it goes on as an init of its own.
//
// boot changes nothing on the root disk: what it adds is in memory, so any
// image gets the agent of this release. It must not know what the agent does.
// It runs once per machine.
package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	newRoot  = "/newroot"
	rootDisk = "/dev/vda"

	// AgentPath is where the agent lies in a running guest.
	AgentPath = runDir + "/" + agentName
	agentName = "bulkhead/bulkhead-guest"
	command   = "/usr/local/bin/bulkhead-guest"
	runDir    = "/run"
	unitName  = "bulkhead-guest.service"
	// systemd is where every image that has it keeps it.
	systemd = "/lib/systemd/systemd"

	// kernelName is the argument 0 that the kernel gives to the first program
	// of an initramfs (run_init_process in its init/main.c).
	kernelName = "/init"
	// initName is the one that boot gives to the agent's binary to make it
	// the init of an image.
	initName = "bulkhead-init"
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

// Run must come early in the main of the agent's binary. It returns at once,
// unless this is process 1 of a machine: then it never does. The argument 0
// decides, which no image can give by accident.
func Run() {
	if os.Getpid() != 1 || len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case kernelName:
		fail(bootMachine())
	case initName:
		fail(runInit())
	}
}

// fail says on the console why the machine cannot go on, and ends it.
func fail(err error) {
	fmt.Fprintf(os.Stderr, "bulkhead: boot: %v\n", err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// bootMachine returns only with an error.
func bootMachine() error {
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
	if err := joinNetwork(); err != nil {
		return fmt.Errorf("join network: %w", err)
	}
	// The disk is there: loading its driver ends when that has looked at the
	// disk and the kernel has made the device (measured: the first mount
	// succeeds). discard tells the host which blocks are free again, which
	// keeps snapshots small.
	if err := unix.Mount(rootDisk, newRoot, "ext4", 0, "discard"); err != nil {
		return fmt.Errorf("mount root disk: %w", err)
	}
	if err := layAgent(runDir); err != nil {
		return fmt.Errorf("lay agent: %w", err)
	}
	if err := switchRoot(); err != nil {
		return fmt.Errorf("switch to root disk: %w", err)
	}
	return startInit()
}

// startInit becomes the image's init if that is systemd. Another one, as in
// images made for containers, would not start the agent, and the host could
// never get in: such images get ours.
func startInit() error {
	// So that it can be called by its name. An image may have no such folder.
	_ = os.Symlink(AgentPath, command)
	if _, err := os.Stat(systemd); err != nil {
		return unix.Exec(AgentPath, []string{initName}, os.Environ())
	}
	if err := layUnit(runDir); err != nil {
		return fmt.Errorf("lay unit: %w", err)
	}
	err := fs.ErrNotExist
	for _, init := range []string{"/sbin/init", systemd} {
		if errors.Is(err, fs.ErrNotExist) {
			err = unix.Exec(init, []string{init}, os.Environ())
		}
	}
	return fmt.Errorf("start systemd: %w", err)
}

// mount is a file system of the kernel's. It is its own source.
type mount struct {
	fstype, target string
	flags          uintptr
	data           string
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

// layAgent copies ourselves to run, which moves to the new root.
func layAgent(run string) error {
	agent := filepath.Join(run, agentName)
	if err := os.MkdirAll(filepath.Dir(agent), 0o755); err != nil {
		return err
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
	return errors.Join(err, out.Close())
}

// layUnit has systemd start the agent.
func layUnit(run string) error {
	units := filepath.Join(run, "systemd/system")
	wants := filepath.Join(units, "sysinit.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(units, unitName), []byte(unit), 0o644),
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
