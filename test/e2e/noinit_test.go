package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/image"
	"bulkhead/test/harness"

	"github.com/google/go-cmp/cmp"
)

// An image without an init, as most are that are made for containers, is as
// good a machine as one with systemd.
func TestImageWithoutInit(t *testing.T) {
	h := harness.New(t, "--cache-dir", initlessCache(t)).Base()
	b := h.Create("initless")

	t.Run("process 1 is ours and stays out of what is frozen", func(t *testing.T) {
		got := b.Sh(`tr '\0' ' ' < /proc/1/cmdline; echo; cat /proc/1/cgroup /proc/$PPID/cgroup /proc/self/cgroup`)
		if want := "bulkhead-init \n0::/\n0::/agent\n0::/work"; got != want {
			t.Errorf("process 1, and the groups of it, the agent and a program: %q, want %q", got, want)
		}
	})
	t.Run("only the agent is kept from the out-of-memory killer", func(t *testing.T) {
		if got := b.Sh(`sleep 0.2; cat /proc/$PPID/oom_score_adj /proc/self/oom_score_adj`); got != "-999\n0" {
			t.Errorf("scores of agent and program: %q", got)
		}
	})
	t.Run("orphans are reaped", func(t *testing.T) {
		// The shells that start them end at once.
		b.Sh(`for i in $(seq 50); do sh -c 'sleep 0.1 & echo $!'; done > /run/orphans
for pid in $(cat /run/orphans); do while test -e /proc/$pid; do sleep 0.1; done; done`)
	})
	t.Run("programs find what they expect", func(t *testing.T) {
		got := b.Sh(`bash -c 'cat <(echo pipe)'; echo out > /dev/stdout
python3 -c 'import os, socket
os.openpty()
s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname())
print("loopback")'`)
		if want := "pipe\nout\nloopback"; got != want {
			t.Errorf("they say %q, want %q", got, want)
		}
	})
	t.Run("the agent is started again", func(t *testing.T) {
		before := b.Sh("echo $PPID")
		b.Exec("sh", "-c", "kill -9 $PPID; sleep 60") // no answer comes
		if after := b.Sh("echo $PPID"); after == before {
			t.Errorf("the agent is still process %s", after)
		}
	})
	t.Run("a wreck is rolled back", func(t *testing.T) { rollBackInitless(t, b) })
	t.Run("it obeys the signals of poweroff and reboot", func(t *testing.T) { powerInitless(t, h, b) })
}

func rollBackInitless(t *testing.T, b *harness.Box) {
	b.Sh(`setsid sh -c 'n=0; while n=$((n+1)); do echo $n > /run/new; mv /run/new /run/count; sleep 0.05; done' > /dev/null 2>&1 &
until test -s /run/count; do sleep 0.05; done`)
	// The size of /run itself changes with the counter's files.
	const list = `find / -xdev ! -path /run -printf '%p %m %U:%G %s %l\n' | LC_ALL=C sort`
	files := b.Sh(list)
	before := number(t, b.Sh("cat /run/count"))
	b.Snapshot("whole")
	b.Exec("rm", "-rf", "--no-preserve-root", "/") // complains about /proc
	b.Snapshot("wrecked")
	b.Rollback("wrecked")
	if r := b.Exec("ls", "/"); r.Code != 127 {
		t.Errorf("ls in a wrecked machine: code %d, %q", r.Code, r.Stderr)
	}
	b.Rollback("whole")
	if diff := cmp.Diff(strings.Split(files, "\n"), strings.Split(b.Sh(list), "\n")); diff != "" {
		t.Errorf("files after rollback (-want +got):\n%s", diff)
	}
	after := number(t, b.Sh("cat /run/count"))
	if after < before {
		t.Errorf("counter went from %d to %d", before, after)
	}
	b.Sh(fmt.Sprintf("until test $(cat /run/count) -gt %d; do sleep 0.05; done", after))
}

func powerInitless(t *testing.T, h *harness.Host, b *harness.Box) {
	b.Sh("echo kept > /srv/kept")
	b.Exec("sh", "-c", "kill -USR2 1; sleep 60")
	await(t, b, client.StateStopped)
	h.Must("start", b.Name)
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	boot, started := b.Sh(bootID), b.Inspect().StartedAt
	b.Exec("sh", "-c", "kill -TERM 1; sleep 60")
	awaitBox(t, b, "started anew", func(s client.Sandbox) bool {
		return s.State == client.StateRunning && s.StartedAt.After(started)
	})
	if got := b.Sh(bootID); got == boot {
		t.Error("it has not rebooted")
	}
	if got := b.Sh("cat /srv/kept"); got != "kept" {
		t.Errorf("file holds %q", got)
	}
}

// initlessCache returns a cache whose root disk has no init, and a folder of
// the name that the drivers have in an initramfs.
func initlessCache(t *testing.T) string {
	t.Helper()
	b := image.Builder{Cache: shared.Cache}
	img, err := b.Build(t.Context(), image.Recipe{Agent: filepath.Join(filepath.Dir(shared.Bin), "bulkhead-guest")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	disk := filepath.Join(cache, "images", filepath.Base(filepath.Dir(img.Disk)), filepath.Base(img.Disk))
	if err := os.MkdirAll(filepath.Dir(disk), 0o700); err != nil {
		t.Fatal(err)
	}
	edits := filepath.Join(cache, "edits")
	const script = "rm /usr/lib/systemd/systemd\nrm /usr/sbin/init\nmkdir /modules\nwrite %s /modules/none.ko\n"
	if err := os.WriteFile(edits, fmt.Appendf(nil, script, edits), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"cp", "--sparse=always", img.Disk, disk},
		{"/usr/sbin/debugfs", "-w", "-f", edits, disk},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return cache
}
