package process

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"bulkhead/internal/guestd/account"
	pb "bulkhead/proto/process"
)

// defaultPath is where programs are looked for if nothing says otherwise;
// Debian's for root, which suits other users as well.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// launch is a start request made definite.
type launch struct {
	user account.User
	argv []string
	env  []string
	path string // the PATH among env
	dir  string
}

// newLaunch checks a request. The errors carry their RPC codes.
func (s *Service) newLaunch(h http.Header, cfg *pb.ProcessConfig) (*launch, error) {
	user, err := s.opts.Users.Of(h)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnauthenticated, err)
	}
	l := &launch{user: user, argv: append([]string{cfg.GetCmd()}, cfg.GetArgs()...)}
	if l.argv[0] == "" {
		return nil, invalid("no program given")
	}
	for _, arg := range l.argv {
		if strings.ContainsRune(arg, 0) {
			return nil, invalid("argument holds a zero byte")
		}
	}
	if err := l.setEnv(s.opts.Env, cfg.GetEnvs()); err != nil {
		return nil, err
	}
	workdir := ""
	if s.opts.Workdir != nil {
		workdir = s.opts.Workdir()
	}
	if l.dir, err = user.Path(cfg.GetCwd(), workdir); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	switch fi, err := os.Stat(l.dir); {
	case err != nil && cfg.GetCwd() == "":
		l.dir = "/" // as login does without a home
	case err != nil:
		return nil, invalid("cwd '%s' does not exist", l.dir)
	case !fi.IsDir():
		return nil, invalid("cwd '%s' is not a directory", l.dir)
	}
	return l, nil
}

// setEnv fills the environment: that of a login, then the agent's defaults,
// then the request's. Nothing of the agent's own is inherited.
func (l *launch) setEnv(defaults func() map[string]string, envs map[string]string) error {
	env := map[string]string{
		"PATH": defaultPath, "HOME": l.user.Home, "USER": l.user.Name, "LOGNAME": l.user.Name,
	}
	if defaults != nil {
		maps.Copy(env, defaults())
	}
	maps.Copy(env, envs)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(env[k], 0) {
			return invalid("environment variable %q cannot be set", k)
		}
		l.env = append(l.env, k+"="+env[k])
	}
	l.path = env["PATH"]
	return nil
}

// spawn starts the program of a request, with a terminal if it asks for one.
// The process does not run its goroutines yet.
func (s *Service) spawn(h http.Header, m *pb.StartRequest) (*process, *stdio, error) {
	l, err := s.newLaunch(h, m.GetProcess())
	if err != nil {
		return nil, nil, err
	}
	ends, err := s.open(l, m)
	if err != nil {
		return nil, nil, startError(l, err)
	}
	proc, err := s.exec(l, ends)
	if err != nil {
		ends.close()
		return nil, nil, startError(l, err)
	}
	ends.started()
	p := &process{os: proc, config: m.GetProcess(), tag: m.Tag, tty: ends.tty, ended: make(chan struct{})}
	if ends.input != nil {
		p.stdin = newInput(ends.input)
	}
	return p, ends, nil
}

func (s *Service) open(l *launch, m *pb.StartRequest) (*stdio, error) {
	if pty := m.GetPty(); pty != nil {
		return openTTY(pty.GetSize(), l.user.UID)
	}
	return s.openPipes(m.Stdin == nil || m.GetStdin())
}

// exec starts the program, or the stand-in that says why it cannot be started.
func (s *Service) exec(l *launch, ends *stdio) (*os.Process, error) {
	attr := &os.ProcAttr{
		Dir:   l.dir,
		Env:   l.env,
		Files: ends.child[:],
		Sys: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: l.user.UID, Gid: l.user.GID, Groups: l.user.Groups},
			// A session of its own: `kill 0` in a program must not reach the agent.
			Setsid:  true,
			Setctty: ends.tty != nil, // descriptor 0, since Ctty is 0
		},
	}
	if s.opts.Cgroup != nil {
		dir, done, err := s.opts.Cgroup()
		if err != nil {
			return nil, fmt.Errorf("open control group: %w", err)
		}
		defer done()
		defer runtime.KeepAlive(dir) // closed when collected, its descriptor lost
		attr.Sys.UseCgroupFD = true
		attr.Sys.CgroupFD = int(dir.Fd())
	}
	proc, err := l.exec(attr)
	if err != nil {
		return standIn(l.argv[0], err, attr)
	}
	return proc, nil
}

// mortal takes from a program what protects the agent from the kernel's
// out-of-memory killer, and what programs inherit (proc(5), oom_score_adj).
// A program that has ended already needs it no more.
func mortal(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
}

// exec tries the files that the program's name can mean, as execvp(3) does.
func (l *launch) exec(attr *os.ProcAttr) (*os.Process, error) {
	err := error(syscall.ENOENT)
	for _, file := range l.files() {
		proc, startErr := os.StartProcess(file, l.argv, attr)
		if errors.Is(startErr, syscall.ENOEXEC) { // a script without #!
			proc, startErr = os.StartProcess("/bin/sh", append([]string{"sh", file}, l.argv[1:]...), attr)
		}
		switch {
		case startErr == nil:
			mortal(proc.Pid)
			return proc, nil
		case errors.Is(startErr, syscall.EACCES): // perhaps the user may not go there; a later one may do
			err = startErr
		case !errors.Is(startErr, fs.ErrNotExist):
			return nil, startErr
		}
	}
	return nil, err
}

// files returns the program's name if it is a path, else the files of that
// name along PATH. Relative paths are relative to l.dir, where it starts.
func (l *launch) files() []string {
	name := l.argv[0]
	if strings.ContainsRune(name, '/') {
		return []string{name}
	}
	var found []string
	for _, dir := range filepath.SplitList(l.path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(l.dir, dir)
		}
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && !fi.IsDir() {
			found = append(found, file)
		}
	}
	return found
}

// startError gives the error of a start that even the stand-in could not make
// its code. The stand-in needs nothing but the directory and free resources.
func startError(l *launch, err error) error {
	err = fmt.Errorf("start '%s' in '%s': %w", l.argv[0], l.dir, err)
	for _, full := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC} {
		if errors.Is(err, full) {
			return connect.NewError(connect.CodeResourceExhausted, err)
		}
	}
	for _, dir := range []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.ENOTDIR} {
		if errors.Is(err, dir) {
			return connect.NewError(connect.CodeInvalidArgument, err)
		}
	}
	return connect.NewError(connect.CodeInternal, err)
}

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}
