package jail_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/cgroup"
	"bulkhead/internal/config"
	"bulkhead/internal/fault"
	"bulkhead/internal/jail"
	"bulkhead/internal/jail/report"
	"bulkhead/internal/jail/root"
	"bulkhead/internal/jail/seccomp"
	"bulkhead/test/leak"

	"golang.org/x/sys/unix"
)

// TestMain is the program in the cages too: its first argument is what it
// does there.
func TestMain(m *testing.M) {
	jail.Enter()
	if len(os.Args) > 1 && programs()[os.Args[1]] != nil {
		programs()[os.Args[1]]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func programs() map[string]func() {
	return map[string]func(){
		"wait": func() { wait() },
		"look": look,
		"sock": func() { unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) },
		"hog":  hog,
		"talk": func() { fmt.Print(strings.Repeat("flood ", 20000)) },
	}
}

// wait waits for its end by a signal, with nothing open.
func wait() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, os.Interrupt)
	<-never
}

// look prints what there is to see, and what can be written.
func look() {
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Println(path, err)
		} else if !d.IsDir() && !strings.Contains(path, "/lib") {
			fmt.Println(path)
		}
		return nil
	})
	for fd := range 64 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			fmt.Println("open", fd)
		}
	}
	for _, path := range []string{"/new", "/m/new", "/m/disk", "/m/kernel", os.Args[0]} {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
		fmt.Println("write", filepath.Base(path), err)
		unix.Close(fd)
	}
	fd, err := unix.Open("/m/kernel", unix.O_RDONLY, 0)
	fmt.Println("read kernel", err)
	unix.Close(fd)
	fmt.Println("uid", os.Getuid(), os.Geteuid(), os.Getgid())
}

func hog() {
	for kept := [][]byte{}; ; {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
}

// patience turns a hang into a failure; nothing is measured by it.
const patience = time.Minute

// bench has what the tests need: a jail, and folders that go with the test.
type bench struct {
	dir  string
	jail *jail.Jail
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("jailing needs root")
	}
	leak.Check(t)
	b := &bench{dir: t.TempDir()}
	b.jail = b.again(t)
	for _, m := range b.jail.Missing() {
		t.Skipf("this host has no %s", m.Feature)
	}
	return b
}

func (b *bench) config() jail.Config {
	return jail.Config{
		Dir: filepath.Join(b.dir, "jail"), Leases: jail.DefaultLeases,
		FirstUID: config.DefaultJailFirstUID, UIDs: config.DefaultJailUIDs, Log: slog.New(slog.DiscardHandler),
	}
}

// again is a jail as a later daemon has it.
func (b *bench) again(t *testing.T) *jail.Jail {
	t.Helper()
	j, err := jail.New(b.config())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// cage makes a cage in which the test binary plays a program.
func (b *bench) cage(t *testing.T, name, program string) jail.Cage {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"disk", "kernel"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return jail.Cage{
		Name: "test", Dir: dir, Args: []string{program},
		Program: root.Program{Path: exe, Devices: []string{"/dev/null"}},
		Files: []jail.File{
			{Host: filepath.Join(dir, "disk"), Inside: "/m/disk", Writable: true},
			{Host: filepath.Join(dir, "kernel"), Inside: "/m/kernel"},
		},
		Limits: jail.Limits{
			FileBytes: 1 << 20, OpenFiles: 64,
			Group: cgroup.Limits{MemoryBytes: 64 << 20, CPUWeight: 100, CPUQuota: 1, PIDs: 40},
		},
		Syscalls: seccomp.List{Allow: strings.Fields(`execve arch_prctl brk mmap munmap mprotect madvise
			set_tid_address set_robust_list rseq futex clone exit exit_group gettid getpid getuid geteuid getgid
			tgkill sched_yield sched_getaffinity rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack prlimit64
			getrandom openat access close fstat newfstatat lseek fcntl pipe2 read write pread64 getdents64 readlinkat
			nanosleep prctl clock_gettime epoll_create1 epoll_ctl epoll_pwait eventfd2 uname`), Absent: []string{"clone3"}},
	}
}

func (b *bench) start(t *testing.T, c jail.Cage) *jail.Process {
	t.Helper()
	p, err := b.jail.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func ended(t *testing.T, p *jail.Process) jail.End {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return p.End()
}

func TestWhatIsSeenInside(t *testing.T) {
	b := newBench(t)
	c := b.cage(t, "a", "look")
	p := b.start(t, c)
	if e := ended(t, p); !e.Status.Success() {
		t.Fatalf("ended with %s: %s", e.Status, p.Log())
	}
	uid := config.DefaultJailFirstUID
	for _, want := range []string{
		"write new read-only file system", "write kernel permission denied", "write disk <nil>", "read kernel <nil>",
		"write " + filepath.Base(c.Program.Path) + " permission denied",
	} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("%q is not in:\n%s", want, p.Log())
		}
	}
	var seen, open []string
	for line := range strings.Lines(p.Log()) {
		line = strings.TrimSpace(line)
		if fd, ok := strings.CutPrefix(line, "open "); ok {
			open = append(open, fd)
		} else if strings.HasPrefix(line, "/") {
			seen = append(seen, line)
		} else if after, ok := strings.CutPrefix(line, "uid "); ok && !strings.HasPrefix(after, fmt.Sprint(uid)[:6]) {
			t.Errorf("uid %s", after)
		}
	}
	slices.Sort(seen)
	want := []string{"/dev/null", "/m/disk", "/m/kernel", c.Program.Path}
	slices.Sort(want)
	if !slices.Equal(seen, want) {
		t.Errorf("sees %q, want %q", seen, want)
	}
	if want := []string{"0", "1", "2"}; !slices.Equal(open, want) {
		t.Errorf("has open %q, want %q", open, want)
	}
}

func TestKernelReportsTheCage(t *testing.T) {
	b := newBench(t)
	p := b.start(t, b.cage(t, "a", "wait"))
	r, err := p.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Verify(r, 1) {
		t.Errorf("%s: got %s, want %s", d.What, d.Got, d.Want)
	}
	for _, tt := range []struct {
		name   string
		change func(*report.Report)
	}{
		{"another user", func(r *report.Report) { r.UIDs = []int{0, r.UIDs[1], r.UIDs[2], r.UIDs[3]} }},
		{"another group", func(r *report.Report) { r.GIDs = []int{0, 0, 0, 0} }},
		{"a further group", func(r *report.Report) { r.Groups = []int{0} }},
		{"the host's network", func(r *report.Report) { r.Namespaces = map[string]bool{"net": false} }},
		{"a capability", func(r *report.Report) { r.Capabilities = map[string]string{"bounding": "0000000000200000"} }},
		{"new privileges", func(r *report.Report) { r.NoNewPrivs = false }},
		{"no filter", func(r *report.Report) { r.Seccomp = 0 }},
		{"too few filters", func(r *report.Report) { r.Filters = 0 }},
		{"dumpable", func(r *report.Report) { r.Dumpable = true }},
		{"a mount more", func(r *report.Report) {
			r.Mounts = append(r.Mounts, report.Mount{Inside: "/proc", Options: []string{"rw"}})
		}},
		{"a mount less", func(r *report.Report) { r.Mounts = r.Mounts[1:] }},
		{"a writable root", func(r *report.Report) {
			r.Mounts = []report.Mount{{Inside: "/", Options: []string{"rw", "nosuid", "nodev"}}}
		}},
		{"a host file open", func(r *report.Report) { r.Descriptors = map[int]string{9: "/etc/shadow"} }},
		{"larger files", func(r *report.Report) { r.FileBytes++ }},
		{"more open files", func(r *report.Report) { r.OpenFiles++ }},
		{"more processes", func(r *report.Report) { r.Processes++ }},
		{"core dumps", func(r *report.Report) { r.CoreBytes = 1 }},
		{"out of its group", func(r *report.Report) { r.InGroup = false }},
		{"more memory", func(r *report.Report) { r.Group.MemoryBytes++ }},
		{"more processes in the group", func(r *report.Report) { r.Group.PIDs = 0 }},
		{"more CPU", func(r *report.Report) { r.Group.CPUQuota = 0 }},
	} {
		t.Run(tt.name+" is a difference", func(t *testing.T) {
			other := r
			tt.change(&other)
			if len(p.Verify(other, 1)) == 0 {
				t.Error("none found")
			}
		})
	}
}

func TestEnds(t *testing.T) {
	b := newBench(t)
	t.Run("a system call that is not listed", func(t *testing.T) {
		e := ended(t, b.start(t, b.cage(t, "call", "sock")))
		if e.Syscall == seccomp.Unnamed {
			t.Log("the kernel's log had too much to say to name it")
		} else if e.Syscall != "socket" {
			t.Errorf("named %q, status %s", e.Syscall, e.Status)
		}
	})
	t.Run("too much memory", func(t *testing.T) {
		if e := ended(t, b.start(t, b.cage(t, "hog", "hog"))); !e.OutOfMemory {
			t.Errorf("ended with %s", e.Status)
		}
	})
	t.Run("killed", func(t *testing.T) {
		p := b.start(t, b.cage(t, "kill", "wait"))
		if err := p.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := p.End(); e.OutOfMemory || e.Syscall != "" || e.Status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("ended as %+v", e)
		}
	})
	t.Run("what it prints is bounded", func(t *testing.T) {
		p := b.start(t, b.cage(t, "talk", "talk"))
		ended(t, p)
		if n := len(p.Log()); n == 0 || n > 32<<10 {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

// A cage is found again by a later daemon, once, and is released by whoever
// sees its end.
func TestFound(t *testing.T) {
	b := newBench(t)
	c := b.cage(t, "a", "wait")
	p := b.start(t, c)
	later := b.again(t)
	found, err := later.Find(t.Context(), c.Dir)
	if err != nil || found.PID() != p.PID() {
		t.Fatalf("found %v, %v", found, err)
	}
	if again, err := later.Find(t.Context(), c.Dir); again != found {
		t.Errorf("found another: %v, %v", again, err)
	}
	if err := later.Reap(t.Context(), c.Dir); err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	if _, err := later.Find(t.Context(), c.Dir); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("found after its end: %v", err)
	}
	if err := later.Reap(t.Context(), c.Dir); err != nil {
		t.Errorf("reap nothing: %v", err)
	}
	wantReleased(t, c)
}

// A daemon that dies while it starts a program leaves a lease, a group and
// files that are not root's.
func TestHalfMadeIsReaped(t *testing.T) {
	b := newBench(t)
	c := b.cage(t, "a", "wait")
	if err := jail.LeaveHalfMade(b.jail, c); err != nil {
		t.Fatal(err)
	}
	if _, err := b.again(t).Find(t.Context(), c.Dir); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("found: %v", err)
	}
	wantReleased(t, c)
}

func wantReleased(t *testing.T, c jail.Cage) {
	t.Helper()
	for _, f := range c.Files {
		var st unix.Stat_t
		if err := unix.Stat(f.Host, &st); err != nil || st.Uid != 0 {
			t.Errorf("%s belongs to %d, error %v", f.Host, st.Uid, err)
		}
	}
	leases, err := filepath.Glob(filepath.Join(jail.DefaultLeases, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), c.Dir) {
			t.Errorf("lease %s is left: %s", l, b)
		}
	}
}

func TestUsersAreNotShared(t *testing.T) {
	b := newBench(t)
	cfg := b.config()
	cfg.UIDs = 2
	cfg.Leases = filepath.Join(b.dir, "leases")
	cfg.FirstUID += config.DefaultJailUIDs // where no other test is
	var err error
	if b.jail, err = jail.New(cfg); err != nil {
		t.Fatal(err)
	}
	one, two := b.start(t, b.cage(t, "a", "wait")), b.start(t, b.cage(t, "b", "wait"))
	if one.UID == two.UID {
		t.Errorf("both are %d", one.UID)
	}
	if _, err := b.jail.Start(t.Context(), b.cage(t, "c", "wait")); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a third: %v", err)
	}
	if err := one.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if three := b.start(t, b.cage(t, "c", "wait")); three.UID != one.UID {
		t.Errorf("the user of one that ended is not free: %d", three.UID)
	}
}

// Whoever releases a cage twice must not end the one that has its user now.
func TestReleasedTwice(t *testing.T) {
	b := newBench(t)
	cfg := b.config()
	cfg.UIDs, cfg.FirstUID = 1, cfg.FirstUID+config.DefaultJailUIDs // where no other test is
	cfg.Leases = filepath.Join(b.dir, "leases")
	var err error
	if b.jail, err = jail.New(cfg); err != nil {
		t.Fatal(err)
	}
	first := b.start(t, b.cage(t, "a", "wait"))
	if err := first.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := b.start(t, b.cage(t, "b", "wait"))
	if err := jail.ReleaseAgain(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	r, err := second.Inspect()
	if err != nil || !r.InGroup || second.UID != first.UID {
		t.Errorf("the second, user %d after %d: %+v, %v", second.UID, first.UID, r, err)
	}
}

func TestStartRefuses(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c *jail.Cage)
		want   string
	}{
		{"a program that is not there", func(_ *testing.T, c *jail.Cage) { c.Program.Path = "/no/such" }, "no such file"},
		{"a program that cannot run", func(_ *testing.T, c *jail.Cage) { c.Syscalls.Allow = []string{"write", "exit_group"} }, ""},
		{"a file that is a link", func(t *testing.T, c *jail.Cage) { replace(t, c.Files[0].Host, os.Symlink) }, "too many levels"},
		{"a file with two names", func(t *testing.T, c *jail.Cage) { replace(t, c.Files[0].Host, os.Link) }, "another name"},
		{"a read-only file that is a link", func(t *testing.T, c *jail.Cage) { replace(t, c.Files[1].Host, os.Symlink) }, "too many levels"},
		{"a file that is a folder", func(t *testing.T, c *jail.Cage) {
			replace(t, c.Files[0].Host, func(_, p string) error { return os.Mkdir(p, 0o755) })
		}, "not a plain file"},
		{"a device that is none", func(_ *testing.T, c *jail.Cage) { c.Program.Devices = []string{"/etc/passwd"} }, "not a character device"},
		{"an unknown system call", func(_ *testing.T, c *jail.Cage) { c.Syscalls.Allow = []string{"fly"} }, "fly"},
		{"a folder that is not there", func(_ *testing.T, c *jail.Cage) { c.Dir += "/none" }, "record process"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.cage(t, strings.ReplaceAll(tt.name, " ", "-"), "wait")
			tt.change(t, &c)
			p, err := b.jail.Start(t.Context(), c)
			if err == nil && tt.want == "" { // it became the program, and that was its end
				ended(t, p)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			c.Files = nil
			wantReleased(t, c)
		})
	}
	t.Run("when it is given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := b.cage(t, "late", "wait")
		if _, err := b.jail.Start(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		wantReleased(t, c)
	})
}

// replace has make put something in a file's place, of another file.
func replace(t *testing.T, path string, make func(old, new string) error) {
	t.Helper()
	target := path + ".target"
	if err := errors.Join(os.Rename(path, target), make(target, path)); err != nil {
		t.Fatal(err)
	}
}

func TestHostThatLacksFeatures(t *testing.T) {
	b := newBench(t)
	cfg := b.config()
	strict, err := jail.Lacking(cfg, "user namespaces")
	if err != nil {
		t.Fatal(err)
	}
	c := b.cage(t, "a", "look")
	_, err = strict.Start(t.Context(), c)
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "user namespaces") || !strings.Contains(fault.HintOf(err), "--jail=degraded") {
		t.Errorf("strict: %v, hint %q", err, fault.HintOf(err))
	}
	cfg.Degraded = true
	if b.jail, err = jail.Lacking(cfg, "user namespaces", "seccomp filters"); err != nil {
		t.Fatal(err)
	}
	if len(b.jail.Degraded()) != 2 {
		t.Errorf("says that it lacks %v", b.jail.Degraded())
	}
	p := b.start(t, b.cage(t, "b", "wait"))
	r, err := p.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, d := range p.Verify(r, 1) {
		what = append(what, d.What)
	}
	want := []string{"user namespace of its own", "seccomp mode", "seccomp filters"}
	if !slices.Equal(what, want) {
		t.Errorf("differs in %q, want %q", what, want)
	}
}
