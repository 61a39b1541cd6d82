package process_test

import (
	"debug/elf"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/process"
	pb "bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
)

// wipedRoot names the directory that becomes the root of a server process.
const wipedRoot = "BULKHEAD_TEST_WIPED_ROOT"

// serveWiped serves on descriptor 3 from a root without a single file, as
// `rm -rf /` leaves it: what is mounted stays. It ends with its input.
func serveWiped() {
	dir := os.Getenv(wipedRoot)
	if dir == "" {
		return
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	must(os.MkdirAll(filepath.Join(dir, "dev/pts"), 0o755))
	must(os.Mkdir(filepath.Join(dir, "proc"), 0o755))
	must(unix.Mount("/dev/pts", filepath.Join(dir, "dev/pts"), "", unix.MS_BIND, ""))
	must(unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""))
	must(unix.Chroot(dir))
	must(os.Chdir("/"))
	l, err := net.FileListener(os.NewFile(3, "listener"))
	must(err)
	mux := http.NewServeMux()
	mux.Handle(process.New(process.Options{}).Handler())
	go func() { must(http.Serve(l, mux)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// staticSelf returns a static build of this test binary: a dynamic one needs
// files to be executed again, and the agent is static.
func staticSelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return self
	}
	static := filepath.Join(t.TempDir(), "static.test")
	build := exec.Command("go", "test", "-c", "-o", static, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return static
}

func TestWipedGuest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	server := exec.Command(staticSelf(t))
	server.Env = append(os.Environ(), wipedRoot+"="+t.TempDir())
	server.ExtraFiles = []*os.File{f}
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	stop, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop.Close()
		if err := server.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})

	r := &rig{url: "http://" + l.Addr().String()}
	r.ProcessClient = processconnect.NewProcessClient(http.DefaultClient, r.url)
	terminal, silent := command("ls"), command("/bin/ls")
	terminal.Pty = &pb.PTY{}
	silent.Stdin = ptr(false)
	for _, test := range []struct {
		name, want string
		req        *pb.StartRequest
	}{
		{"a missing program says so", "bulkhead: ls: not found\n", command("ls")},
		{"a missing program without input says so", "bulkhead: /bin/ls: not found\n", silent},
		{"a missing program on a terminal says so", "bulkhead: ls: not found\r\n", terminal},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := r.run(t, test.req)
			if got := out.stderr + out.pty; got != test.want || out.end.GetExitCode() != 127 || out.err != nil {
				t.Errorf("got %q, %v, %v; want %q", got, out.end, out.err, test.want)
			}
		})
	}
	t.Run("what is left still runs", func(t *testing.T) {
		// The agent's own binary, as an ordinary program.
		out := r.run(t, command("/proc/self/exe", "-test.list", "TestWipedGuest"))
		mustContain(t, "output", out.stdout, "TestWipedGuest")
	})
}
