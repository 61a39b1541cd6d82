package boot

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// restartDelay is the unit's RestartSec.
	restartDelay = 100 * time.Millisecond
	// agentScore is the unit's OOMScoreAdjust. The kernel never kills process
	// 1 for memory anyway; what the agent starts, it makes mortal again.
	agentScore = "-999"
	// agentEnv is the environment that systemd gives to services. The kernel
	// gives none of it to process 1.
	agentEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// runInit is the init of an image without systemd. It keeps the agent, which
// waits for its own children only, and takes in the orphans of all others.
// Process 1 stays in the root of the control groups, which cannot be frozen.
// It returns only with an error.
func runInit() error {
	if err := prepare(); err != nil {
		return err
	}
	// The agent inherits it.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(agentScore), 0); err != nil {
		return err
	}
	watchPower()
	// The agent's file may have been removed; our own is still open.
	keep(AgentPath, "/proc/self/exe")
	return nil
}

// prepare does what programs expect of any init.
func prepare() error {
	if err := mountAll(bare()); err != nil {
		return err
	}
	for name, target := range map[string]string{
		"fd": "", "stdin": "0", "stdout": "1", "stderr": "2",
	} {
		if err := os.Symlink(filepath.Join("/proc/self/fd", target), filepath.Join("/dev", name)); err != nil {
			return err
		}
	}
	return raise("lo")
}

// bare returns what the agent and the programs that it starts need, on top of
// what every boot mounts.
func bare() []mount {
	return []mount{
		{"cgroup2", "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"}, // gid of tty
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
}

// watchPower ends the machine when a signal asks for it, from now on.
func watchPower() {
	// Nobody reads from the first: it only keeps a stray signal from ending
	// this process, which the kernel would answer with a panic. To ignore
	// signals instead would make the agent's programs ignore them too.
	signal.Notify(make(chan os.Signal, 1))
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR)
	go func() {
		sig := <-asked
		unix.Sync()
		unix.Reboot(powerCommand(sig))
	}()
}

// powerCommand says what a signal asks of an init. The commands of busybox
// send SIGTERM to reboot, SIGUSR2 to power off and SIGUSR1 to halt; the keys
// Ctrl-Alt-Del are SIGINT. A machine that only halts could not be told from
// one that hangs: it is powered off.
func powerCommand(sig os.Signal) int {
	if sig == unix.SIGTERM || sig == unix.SIGINT {
		return unix.LINUX_REBOOT_CMD_RESTART
	}
	return unix.LINUX_REBOOT_CMD_POWER_OFF
}

// keep starts the agent from the first of paths that can be started, again
// whenever it ends, and reaps every process that ends. It never returns.
func keep(paths ...string) {
	for {
		agent, err := start(paths)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bulkhead: start agent: %v\n", err)
		}
		reap(agent)
		time.Sleep(restartDelay)
	}
}

func start(paths []string) (pid int, err error) {
	for _, path := range paths {
		pid, err = syscall.ForkExec(path, []string{AgentPath}, &syscall.ProcAttr{
			Env: []string{agentEnv}, Files: []uintptr{0, 1, 2},
		})
		if err == nil {
			break
		}
	}
	return pid, err
}

// reap reaps processes until agent has ended. Without an agent (0) it reaps
// those that have ended already: it may be them who leave no room for it.
func reap(agent int) {
	options := 0
	if agent == 0 {
		options = unix.WNOHANG // returns 0 when no other has ended
	}
	for {
		pid, err := unix.Wait4(-1, nil, options, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == agent {
			return
		}
	}
}
