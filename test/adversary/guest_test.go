package adversary_test

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/test/harness"
	"bulkhead/test/leak"
)

// guestAttack is what root in a guest does to everybody else.
type guestAttack struct {
	name string
	// script says "begin" when it begins and goes on until it is undone, or
	// until it has left its proof.
	script string
	// proof is what the console says of an attack that had its effect.
	proof string
	// states are those in which the machine is seen after its attack, one after
	// the other; none if it goes on running.
	states []client.State
	// reason is what inspect says in the first of them.
	reason string
}

func guestAttacks() []guestAttack {
	return []guestAttack{
		{
			name:   "fork bomb",
			script: "exec 2> /dev/kmsg; echo begin; bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done",
			proof:  "Cannot fork|fork rejected|Out of memory",
		},
		{
			name:   "memory hog",
			script: "echo begin; while :; do tail /dev/zero; done",
			proof:  "Out of memory: Killed process",
		},
		{
			name: "disk filler",
			script: `head -c 8M /dev/urandom > /junk; fallocate -l 7G /most; exec 2> /dev/kmsg; echo begin
				while :; do while cat /junk; do :; done > /rest; df --output=pcent / >&2; done`,
			proof: "No space left on device(?s:.*)100%",
		},
		{
			// A third of the time the machine is held up to compare: 30 s are left.
			name:   "console flood for 30 s",
			script: "echo begin; timeout 45 yes > /dev/console; echo dry > /dev/kmsg",
			proof:  "y\r?\ny\r?\n(?s:.*)dry",
		},
		{
			name:   "guest channel flood",
			script: "cat > /run/flood <<'EOF'\n" + channelFlood + "EOF\necho begin; exec setsid python3 /run/flood > /dev/kmsg 2>&1",
			proof:  "wrote [0-9]{8}",
		},
		{
			name: "crash by sysrq", script: "echo begin; echo c > /proc/sysrq-trigger",
			states: []client.State{client.StateCrashed}, reason: "guest panicked",
		},
		{
			name: "end of process 1", script: "echo begin; mount --bind /bin/true /lib/systemd/systemd; kill -TERM 1; sleep 1000",
			states: []client.State{client.StateCrashed}, reason: "guest panicked",
		},
		{
			name: "poweroff -f", script: "echo begin; poweroff -f",
			states: []client.State{client.StateStopped}, reason: "guest powered off",
		},
		{
			name: "reboot -f", script: "echo begin; reboot -f",
			states: []client.State{client.StateStarting, client.StateRunning}, reason: "guest rebooted",
		},
	}
}

// channelFlood takes the agent's end of the guest channel, which nobody else
// can open while the agent has it, and writes junk to it, as fast as it can.
const channelFlood = `
import ctypes, glob, os, time
ports = glob.glob('/dev/vport*') + glob.glob('/dev/virtio-ports/*')
junk, wrote, taken = os.urandom(1 << 15), 0, []
for port in ports:
    try:
        taken.append(os.open(port, os.O_WRONLY))
    except OSError as e:
        print(e)
for path in glob.glob('/proc/[0-9]*/fd/*'):
    try:
        if os.readlink(path) in ports:
            pidfd = os.pidfd_open(int(path.split('/')[2]))
            taken.append(ctypes.CDLL(None).syscall(438, pidfd, int(path.split('/')[4]), 0))  # pidfd_getfd
    except OSError:
        pass
end = time.monotonic() + 12
while time.monotonic() < end:
    for fd in taken:
        os.set_blocking(fd, True)
        wrote += os.write(fd, junk)
print('wrote', wrote)
`

// Whatever root does in a guest: its neighbour goes on, the daemon stays small,
// logs stay short, the operator is told what happened, a rollback undoes it.
func TestGuestAttacks(t *testing.T) {
	leak.Check(t)
	h := harness.New(t).Base()
	s := &siege{h: h, attacker: h.Create("attacker"), neighbour: h.Create("neighbour"), api: client.New(h.Socket())}
	defer s.api.Close()
	s.attacker.Sh("echo kept > /srv/kept")
	s.attacker.Snapshot(whole)

	var table strings.Builder
	fmt.Fprintln(&table, tollHead)
	defer func() { t.Logf("\n%s", table.String()) }()
	for _, a := range guestAttacks() {
		t.Run(a.name, func(t *testing.T) {
			s.t = t
			for range tries {
				toll := s.endure(a)
				fmt.Fprintln(&table, toll)
				toll.check(t, a)
				if toll.ratio() <= fair {
					return
				}
			}
			t.Errorf("%d times the neighbour took more than %.0f times as long", tries, fair)
		})
	}
}
