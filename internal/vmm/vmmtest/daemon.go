package vmmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/internal/vmm"
)

func daemons() []check {
	return []check{
		{"a machine outlives its daemons", outlivesDaemons},
		{"what a daemon leaves in the middle of a start is reaped", reapsRemains},
		{"of a neighbour nothing is reaped", sparesNeighbour},
	}
}

func outlivesDaemons(t *testing.T, l *lab) {
	at := l.saved.copy(t, l)
	for _, how := range []string{restore, attach} {
		d := l.startDaemon(t, order{how, at})
		d.waitReady(t)
		d.kill(t)
	}
	m := l.attach(t, at.Spec)
	wantMoment(t, m.talk(t), l.count, "before")
	m.save(t)
	killOutside(t, m)
	if got := m.wait(t); got.Cause != vmm.Died {
		t.Errorf("exit %+v", got)
	}
	wantGone(t, l, at.Spec)
}

func reapsRemains(t *testing.T, l *lab) {
	for _, how := range []string{boot, restore} {
		t.Run(how, func(t *testing.T) {
			o := order{how, l.saved.copy(t, l)}
			d := l.startDaemon(t, o)
			eventually(t, "a VMM starts", func() bool { return len(holders(t, o.At.Spec.Disk)) > 0 })
			d.kill(t)
			do(t, l.reap(o.At.Spec.RunDir), l.reap(o.At.Spec.RunDir))
			wantGone(t, l, o.At.Spec)
		})
	}
}

func sparesNeighbour(t *testing.T, l *lab) {
	m := l.restore(t)
	dir := m.spec.RunDir
	do(t, l.reap(dir[:len(dir)-1]))
	wantMoment(t, m.talk(t), l.count, "before")
	do(t, l.reap(dir))
	if got := m.wait(t); got.Cause != vmm.Died {
		t.Errorf("exit %+v", got)
	}
}

// order is how a machine is to be started, and on what.
type order struct {
	How string
	At  moment
}

// The ways to come by a machine.
const (
	boot    = "boot"
	restore = "restore"
	attach  = "attach"
)

func (o order) start(ctx context.Context, d vmm.Driver) (vmm.Machine, error) {
	switch o.How {
	case boot:
		return d.Boot(ctx, o.At.Spec)
	case restore:
		return d.Restore(ctx, o.At.Spec, o.At.State)
	}
	return d.Attach(ctx, o.At.Spec)
}

// orderVariable carries an order to a test binary that plays a daemon.
const orderVariable = "VMMTEST_ORDER"

// ready is what a daemon says when its machine runs.
const ready = "ready\n"

// playDaemon does what a daemon is ordered to and waits to be killed. It
// reports whether this process is one.
func playDaemon(t *testing.T, newDriver func(*testing.T) vmm.Driver) bool {
	t.Helper()
	text := os.Getenv(orderVariable)
	if text == "" {
		return false
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	m, err := o.start(t.Context(), newDriver(t))
	if err != nil {
		t.Fatal(err)
	}
	do(t, m.Continue)
	os.Stdout.WriteString(ready)
	io.Copy(io.Discard, os.Stdin) // until it is killed, or nobody is left to kill it
	return true
}

// daemon is a process that starts a machine as it is ordered to.
type daemon struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func (l *lab) startDaemon(t *testing.T, o order) daemon {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(exe, "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := daemon{cmd, bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		d.kill(t)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.driver.Reap(ctx, o.At.Spec.RunDir); err != nil {
			t.Error(err)
		}
	})
	return d
}

// waitReady waits until the daemon's machine runs.
func (d daemon) waitReady(t *testing.T) {
	t.Helper()
	var said strings.Builder
	for {
		line, err := d.out.ReadString('\n')
		if line == ready {
			return
		}
		said.WriteString(line)
		if err != nil {
			t.Fatalf("daemon: %v\n%s", err, said.String())
		}
	}
}

// kill kills the daemon as kill -9 does. Killing it twice does nothing.
func (d daemon) kill(t *testing.T) {
	t.Helper()
	if d.cmd.ProcessState != nil {
		return
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	d.cmd.Wait() // it was killed
}
