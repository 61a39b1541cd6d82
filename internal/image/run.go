package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"bulkhead/internal/fault"
)

const (
	// maxLine bounds a line of output, in bytes; the rest of it is dropped.
	maxLine = 1000
	// lastLines is how many lines of output an error shows, and lastBytes how
	// much of each.
	lastLines, lastBytes = 6, 160
	// maxCapture bounds what capture returns.
	maxCapture = 1 << 20
)

// searchPath is where programs are looked for, here and by the programs
// themselves. Our own path may lack the sbin folders, as after su.
const searchPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// run runs a program of the host in the unfinished part.
func (w workspace) run(ctx context.Context, name string, args ...string) error {
	cmd, err := command(ctx, name, args)
	if err != nil {
		return err
	}
	cmd.Dir = w.dir
	return w.execute(ctx, cmd)
}

// runInside runs a program of the tree at root as if root were all there is.
func (w workspace) runInside(ctx context.Context, root, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	return w.execute(ctx, cmd)
}

// execute runs cmd and passes its output on by lines. An error shows the last
// of them, also to the user: what fails here is a mirror, a package or a disk.
func (w workspace) execute(ctx context.Context, cmd *exec.Cmd) error {
	out := &lines{tell: w.log}
	cmd.Stdout, cmd.Stderr = out, out
	err := contain(ctx, cmd)
	out.flush()
	if err != nil && ctx.Err() == nil && len(out.last) > 0 {
		return fault.New(fault.Unavailable, "%w: %s", err, strings.Join(out.last, " | "))
	}
	return err
}

// capture runs a program of the host and returns what it writes to standard
// output, up to maxCapture bytes.
func capture(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd, err := command(ctx, name, args)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd.Stdout = &limited{w: &out, left: maxCapture}
	err = contain(ctx, cmd)
	return out.Bytes(), err
}

// command finds a program of the host. ctx kills it.
func command(ctx context.Context, name string, args []string) (*exec.Cmd, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return exec.CommandContext(ctx, path, args...), nil
		}
	}
	for _, t := range Tools() {
		if t.Name == name {
			return nil, fault.New(fault.Unavailable, "%s is not installed", name).Hint("apt-get install %s", t.Package)
		}
	}
	return nil, fmt.Errorf("run %s: %w", name, exec.ErrNotFound)
}

// contain runs cmd, which ctx kills, as the first process of a PID namespace
// with mounts of its own. When contain returns, everything that cmd started is
// gone, and so is everything that it mounted (pid_namespaces(7)).
func contain(ctx context.Context, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	// When we are killed, so is cmd, and with it all of its namespace. The
	// signal comes when the thread ends that started cmd (prctl(2)): keep it.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.Env = environment()
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), err)
	}
	return nil
}

// environment is what programs get of ours: no more than the way out to a
// mirror. They run package scripts, whom our secrets do not concern.
func environment() []string {
	env := []string{
		"PATH=" + searchPath, "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// lines cuts what is written to it into lines of printable text.
type lines struct {
	tell func(line string)
	// last holds the last lines.
	last []string
	line []byte
}

// Write takes any bytes and never fails.
func (l *lines) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		// Progress bars end their lines by a carriage return.
		i := bytes.IndexAny(rest, "\r\n")
		if i < 0 {
			l.add(rest)
			break
		}
		l.add(rest[:i])
		l.flush()
		rest = rest[i+1:]
	}
	return len(b), nil
}

func (l *lines) add(b []byte) {
	l.line = append(l.line, b[:min(len(b), maxLine-len(l.line))]...)
}

// flush ends the line, if one has begun.
func (l *lines) flush() {
	text := strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(l.line), "")))
	l.line = l.line[:0]
	if text == "" {
		return
	}
	if len(l.last) == lastLines {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, strings.ToValidUTF8(text[:min(len(text), lastBytes)], ""))
	l.tell(text)
}

// limited drops what is more than it may pass on.
type limited struct {
	w    io.Writer
	left int
}

// Write reports success for what it drops, so that the program goes on.
func (l *limited) Write(b []byte) (int, error) {
	keep := b[:min(len(b), l.left)]
	l.left -= len(keep)
	if _, err := l.w.Write(keep); err != nil {
		return 0, err
	}
	return len(b), nil
}

// hint gives err a way out if it has none.
func hint(err error, way string) error {
	if fault.HintOf(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.New(fault.Unavailable, "%w", err).Hint("%s", way)
}
