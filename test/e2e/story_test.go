package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// treeDigest is one number for everything on the root file system: names,
// owners, modes, sizes, links and contents. /run, /tmp and the kernel's file
// systems are other file systems and are left out by -xdev.
const treeDigest = `cd / && find . -xdev -printf '%p %y %m %U %G %s %l\n' | LC_ALL=C sort | sha256sum | cut -c1-64 > /run/tree
find . -xdev -type f ! -path './var/log/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64 >> /run/tree
cat /run/tree`

// counter is a service that counts in its memory only and tells its number
// when it is asked through a FIFO.
const counter = `cat > /usr/local/bin/counter <<'EOF'
#!/usr/bin/python3
import os, threading, time
n = 0
def count():
    global n
    while True:
        n += 1
        time.sleep(0.05)
threading.Thread(target=count, daemon=True).start()
os.mkfifo('/run/counter')
while True:
    with open('/run/counter', 'w') as f:
        f.write(str(n) + '\n')
    time.sleep(0.01)
EOF
chmod +x /usr/local/bin/counter
cat > /etc/systemd/system/counter.service <<'EOF'
[Unit]
Description=Counts in memory
[Service]
ExecStart=/usr/local/bin/counter
[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable --now counter
until test -p /run/counter; do sleep 0.1; done`

// The main job: an agent gets root, wrecks its machine, and is rolled back.
func TestWreckedMachineIsRolledBack(t *testing.T) {
	h := host(t)
	b := h.Create("wreck")

	if got := b.Sh("id -u"); got != "0" {
		t.Fatalf("agent runs as uid %s, want root", got)
	}
	b.Sh(counter)
	before := number(t, b.Sh("head -1 /run/counter"))
	digest := b.Sh(treeDigest)
	b.Snapshot("monday")
	later := number(t, b.Sh("head -1 /run/counter"))

	b.Exec("rm", "-rf", "--no-preserve-root", "/") // complains about /proc
	if r := b.Exec("ls", "/"); r.Code != 127 || !strings.Contains(r.Stderr, "not found") {
		t.Fatalf("ls in a wrecked machine: code %d, %q", r.Code, r.Stderr)
	}

	r := b.Rollback("monday")
	t.Logf("rolled back in %.0f ms", r.DurationMS)
	if got := b.Sh(treeDigest); got != digest {
		t.Errorf("file tree differs after rollback:\n%s\nwant\n%s", got, digest)
	}
	if got := b.Sh("systemctl is-active counter"); got != "active" {
		t.Errorf("unit is %s", got)
	}
	after := number(t, b.Sh("head -1 /run/counter"))
	// A restarted counter would begin near 0. It went on from the snapshot,
	// which lies between the two earlier readings.
	if after < before {
		t.Errorf("counter went from %d (snapshot before %d) to %d", before, later, after)
	}
}

// Disk and memory of a snapshot belong to one moment, however often it is
// done: what was written before a snapshot is there after the rollback, what
// was written later is not, and the file system stays sound.
func TestFiftyRounds(t *testing.T) {
	b := host(t).Create("rounds")
	const tree = `cd /srv && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`
	for i := range 50 {
		// No sync: what sits in the guest's page cache counts too.
		want := b.Sh(fmt.Sprintf(`head -c %d /dev/urandom > /srv/f%d; rm -f /srv/f%d; %s`, 1000+i*7919, i, i-5, tree))
		name := fmt.Sprintf("round-%d", i)
		b.Snapshot(name)
		b.Sh(`rm -rf /srv/f*; head -c 300000 /dev/urandom > /srv/other`)
		b.Rollback(name)
		if got := b.Sh(tree); got != want {
			t.Fatalf("round %d: tree is\n%s\nwant\n%s", i, got, want)
		}
	}
	// Everything that the page cache held is checked against the disk.
	if out := b.Sh(`sync; echo 3 > /proc/sys/vm/drop_caches; dmesg | grep -iE 'ext4.*(error|corrupt)' || echo sound`); out != "sound" {
		t.Errorf("guest kernel complains: %s", out)
	}
}

func TestTwentyRollbacksInARow(t *testing.T) {
	b := host(t).Create("again")
	b.Sh(counter)
	at := number(t, b.Sh("head -1 /run/counter"))
	b.Sh("echo kept > /srv/kept")
	b.Snapshot("start")
	for i := range 20 {
		b.Rollback("start")
		if got := b.Sh("cat /srv/kept"); got != "kept" {
			t.Fatalf("rollback %d: %q", i, got)
		}
		if got := number(t, b.Sh("head -1 /run/counter")); got < at {
			t.Fatalf("rollback %d: counter %d, want at least %d", i, got, at)
		}
	}
}

// Two sandboxes from one template are two machines.
func TestMachinesFromOneTemplateDiffer(t *testing.T) {
	h := host(t)
	a, b := h.Create("twin-a"), h.Create("twin-b")
	for _, tt := range []struct{ name, script string }{
		{"hostname", "hostname"},
		{"hostname file", "cat /etc/hostname"},
		{"machine-id", "cat /etc/machine-id"},
		{"boot id", "cat /proc/sys/kernel/random/boot_id"},
		{"kernel randomness", "head -c 32 /dev/urandom | sha256sum"},
		{"uuid", "cat /proc/sys/kernel/random/uuid"},
	} {
		x, y := a.Sh(tt.script), b.Sh(tt.script)
		if x == "" || x == y {
			t.Errorf("%s: %q and %q", tt.name, x, y)
		}
	}
}

// After a rollback the kernel does not repeat the random numbers that it gave
// after the snapshot.
func TestRandomnessIsNotRepeated(t *testing.T) {
	b := host(t).Create("random")
	b.Snapshot("seeded")
	seen := map[string]bool{b.Sh("head -c 32 /dev/urandom | sha256sum"): true}
	for range 3 {
		b.Rollback("seeded")
		n := b.Sh("head -c 32 /dev/urandom | sha256sum")
		if seen[n] {
			t.Fatalf("random bytes %s came again", n)
		}
		seen[n] = true
	}
}

// The guest sees the five kinds of device, and no others.
func TestDevices(t *testing.T) {
	b := host(t).Create("devices")
	got := b.Sh(`for d in /sys/bus/virtio/devices/*; do cat $d/device; done | sort | xargs`)
	// Virtio device ids (virtio 1.1, section 5): 1 network, 2 block,
	// 3 console (the guest channel), 4 entropy, 5 memory balloon.
	if want := "0x0001 0x0002 0x0003 0x0004 0x0005"; got != want {
		t.Errorf("virtio devices %s, want %s", got, want)
	}
	if got := b.Sh(`ls /sys/class/virtio-ports | wc -l`); got != "1" {
		t.Errorf("%s ports on the guest channel, want 1", got)
	}
	if got := b.Sh(`ls /sys/bus/pci/devices 2>/dev/null | wc -l; ls /sys/bus/usb/devices 2>/dev/null | wc -l`); got != "0\n0" {
		t.Errorf("PCI and USB devices: %q, want none", got)
	}
	// The machine's own chips. Anything new here is a new thing to attack.
	got = b.Sh(`ls /sys/bus/acpi/devices | cut -d: -f1 | sort -u | xargs`)
	if want := "ACPI0013 LNRO0005 LNXSYBUS LNXSYSTM PNP0501 PNP0B00 PNP0C0C QEMU0002"; got != want {
		t.Errorf("ACPI devices %s, want %s", got, want)
	}
}

func TestNoWayOut(t *testing.T) {
	b := host(t).Create("offline")
	r := b.Exec("python3", "-c", `
import socket
for ip in ("10.0.2.2", "192.168.0.1", "169.254.169.254", "1.1.1.1"):
    s = socket.socket(); s.settimeout(1)
    try:
        s.connect((ip, 80)); s.sendall(b"x"); print("reached", ip, s.recv(1))
    except OSError as e:
        print("no way:", e.strerror or e)
`)
	if r.Code != 0 || strings.Contains(r.Stdout, "reached") || strings.Count(r.Stdout, "no way") != 4 {
		t.Errorf("%d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// A template's first sandbox has the tools that agents expect.
func TestBaseHasWhatAgentsExpect(t *testing.T) {
	h := host(t)
	b := h.Create("tools")
	b.Sh(`for c in systemctl sudo bash python3 python git curl ps ip less nano tput ssh; do command -v $c >/dev/null || { echo missing $c; exit 1; }; done`)
	if got := b.Sh(`test -s /etc/ssl/certs/ca-certificates.crt && id -u user && getent passwd user | cut -d: -f6`); got != "1000\n/home/user" {
		t.Errorf("user: %q", got)
	}
	if got := h.Must("exec", "-u", "user", b.Name, "--", "sudo", "-n", "id", "-u"); got != "0\n" {
		t.Errorf("sudo without a password as user gives uid %q", got)
	}
	// The kernel's other clock, jiffies, loses time under a translator.
	if got := b.Sh(`cat /sys/devices/system/clocksource/clocksource0/current_clocksource`); got != "tsc" {
		t.Errorf("guest keeps its time by %s", got)
	}
	if got := b.Sh(`systemctl --failed --no-legend | wc -l`); got != "0" {
		t.Errorf("failed units: %s", b.Sh(`systemctl --failed --no-legend`))
	}
	// What protects the agent from the out-of-memory killer is not handed on.
	if got := b.Sh(`sleep 0.2; cat /proc/self/oom_score_adj`); got != "0" {
		t.Errorf("programs run with oom_score_adj %s", got)
	}
	disk, err := strconv.Atoi(b.Sh(`blockdev --getsize64 /dev/vda`))
	if err != nil || disk != 8<<30 {
		t.Errorf("root disk has %d bytes, want 8 GiB", disk)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatalf("not a number: %q", s)
	}
	return n
}
