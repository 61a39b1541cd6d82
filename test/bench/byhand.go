package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bulkhead/client"
	"bulkhead/client/program"
	"bulkhead/internal/guest"
	"bulkhead/internal/vmm"
	"bulkhead/internal/vmm/qemu"
	"bulkhead/proto/process/processconnect"

	"golang.org/x/sys/unix"
)

// bare is a machine that was restored without the daemon.
type bare struct {
	// dir holds its files. runDir is among those of the daemon's machines, so
	// that the guard of a bench that was killed finds its VMM.
	dir, runDir string

	vm    vmm.Machine
	guest *guest.Client
	tap   *os.File
}

// byHand restores the template's snapshot on files of its own, and says how
// long that took until the guest had answered.
func (b *bench) byHand(ctx context.Context) (*bare, time.Duration, error) {
	return b.byHandAs(ctx, "byhand")
}

// byHandAs is byHand under another name, for several at once.
func (b *bench) byHandAs(ctx context.Context, name string) (*bare, time.Duration, error) {
	info, err := b.client.Info(ctx)
	if err != nil {
		return nil, 0, err
	}
	all, err := b.client.Templates(ctx)
	if err != nil {
		return nil, 0, err
	}
	from, err := b.templateFiles(all[0])
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp(filepath.Join(b.host.Dir, "pool"), "hand")
	if err != nil {
		return nil, 0, err
	}
	m := &bare{dir: dir, runDir: filepath.Join(b.host.Dir, "run", name)}
	if err := os.Mkdir(m.runDir, 0o700); err != nil {
		return nil, 0, m.end(ctx, err)
	}
	began := time.Now()
	for _, f := range []string{"memory", "disk"} {
		if out, err := exec.CommandContext(ctx, "cp", "--reflink=always", filepath.Join(from, f), dir).CombinedOutput(); err != nil {
			return nil, 0, m.end(ctx, fmt.Errorf("reflink: %s", out))
		}
	}
	cages, err := b.jail()
	if err != nil {
		return nil, 0, m.end(ctx, err)
	}
	if m.tap, err = openTap(); err != nil {
		return nil, 0, m.end(ctx, err)
	}
	driver := qemu.New(qemu.Config{Accel: vmm.Accel(info.Accel), Jail: cages, Log: slog.New(slog.DiscardHandler)})
	m.vm, err = driver.Restore(ctx, vmm.Spec{
		ID: name, CPUs: all[0].CPUs, MemoryMiB: all[0].MemoryMB,
		Memory: filepath.Join(dir, "memory"), Disk: filepath.Join(dir, "disk"),
		Kernel: filepath.Join(from, "kernel"), Initrd: filepath.Join(from, "initrd"), RunDir: m.runDir,
		Tap: m.tap,
	}, filepath.Join(from, "state"))
	if err != nil {
		return nil, 0, m.end(ctx, err)
	}
	if err := m.greet(ctx); err != nil {
		return nil, 0, m.end(ctx, err)
	}
	return m, time.Since(began), nil
}

// openTap makes a tap that leads nowhere and goes with its file.
func openTap() (*os.File, error) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq("hand%d") // the kernel counts
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	return f, unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req)
}

func (m *bare) greet(ctx context.Context) error {
	if err := m.vm.Continue(ctx); err != nil {
		return err
	}
	conn, err := m.vm.Guest(ctx)
	if err != nil {
		return err
	}
	if m.guest, err = guest.Connect(ctx, conn, time.Now); err != nil {
		return err
	}
	return m.guest.Resume(ctx, nil, nil)
}

// templateFiles finds the template's folder: the snapshot of no sandbox whose
// manifest bears its name.
func (b *bench) templateFiles(t client.Template) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(b.host.Dir, "pool", "snapshots", "*", "manifest"))
	if err != nil {
		return "", err
	}
	for _, f := range dirs {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		_, body, _ := bytes.Cut(content, []byte("\n"))
		var manifest struct {
			Meta struct{ Name, Cause string }
		}
		if json.Unmarshal(body, &manifest) == nil && manifest.Meta.Name == t.Name && manifest.Meta.Cause == "template" {
			return filepath.Dir(f), nil
		}
	}
	return "", fmt.Errorf("template %s has no snapshot", t.Name)
}

// end ends the machine and returns err, or what went wrong with ending it.
func (m *bare) end(ctx context.Context, err error) error {
	if m.guest != nil {
		err = errors.Join(err, m.guest.Close())
	}
	if m.vm != nil {
		err = errors.Join(err, m.vm.Kill(ctx))
	}
	if m.tap != nil {
		err = errors.Join(err, m.tap.Close())
	}
	return errors.Join(err, os.RemoveAll(m.dir), os.RemoveAll(m.runDir))
}

// exec runs a program and waits for its end.
func (m *bare) exec(ctx context.Context, cmd string, args ...string) error {
	_, err := m.output(ctx, cmd, args...)
	return err
}

func (m *bare) output(ctx context.Context, cmd string, args ...string) (string, error) {
	var out strings.Builder
	code, err := m.run(ctx, program.Exec{Cmd: cmd, Args: args, Stdout: &out, Stderr: os.Stderr})
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with %d", cmd, code)
	}
	return out.String(), err
}

// run runs a program as root, as the CLI does.
func (m *bare) run(ctx context.Context, e program.Exec) (code int, err error) {
	agent := processconnect.NewProcessClient(&http.Client{Transport: asRoot{m.guest.Transport()}}, "http://guest")
	exit, err := program.Run(ctx, agent, e, func(err error) error { return err })
	return exit.Code, err
}

// asRoot tells the agent who asks.
type asRoot struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a asRoot) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("root", "")
	return a.RoundTripper.RoundTrip(r)
}

// echo is the smallest call that there is.
func (m *bare) echo(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest/health", nil)
	if err != nil {
		return err
	}
	resp, err := m.guest.Transport().RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// spawn measures fork and exec inside.
func (m *bare) spawn(ctx context.Context) (time.Duration, error) {
	const script = `import subprocess, time
subprocess.run(["/bin/true"])
t = time.monotonic()
for i in range(20):
    subprocess.run(["/bin/true"])
print((time.monotonic() - t) / 20)`
	out, err := m.output(ctx, "python3", "-c", script)
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	return time.Duration(seconds * float64(time.Second)), err
}

// snapshot takes one by hand and says how long the machine stood still.
func (m *bare) snapshot(ctx context.Context) (time.Duration, error) {
	if err := m.guest.Sync(ctx); err != nil {
		return 0, err
	}
	for _, f := range []string{"memory", "disk"} {
		if out, err := exec.CommandContext(ctx, "sync", "--data", filepath.Join(m.dir, f)).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("sync: %s", out)
		}
	}
	state, err := os.Create(filepath.Join(m.dir, "state"))
	if err != nil {
		return 0, err
	}
	defer state.Close()
	began := time.Now()
	if err := m.vm.Stop(ctx); err != nil {
		return 0, err
	}
	if err := m.vm.SaveState(ctx, state); err != nil {
		return 0, err
	}
	script := fmt.Sprintf("cd %s && cp --reflink=always memory memory.snap && cp --reflink=always disk disk.snap", m.dir)
	if out, err := exec.CommandContext(ctx, "sh", "-c", script).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("reflink: %s", out)
	}
	err = m.vm.Continue(ctx)
	return time.Since(began), err
}
