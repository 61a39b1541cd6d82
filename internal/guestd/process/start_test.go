package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"bulkhead/internal/guestd/process"
	pb "bulkhead/proto/process"
)

func TestStart(t *testing.T) {
	codecs := map[string][]connect.ClientOption{
		"binary":        nil,
		"json":          {connect.WithProtoJSON()},
		"grpc-web json": {connect.WithGRPCWeb(), connect.WithProtoJSON()},
	}
	exit := func(code int32, exited bool, status string) *pb.ProcessEvent_EndEvent {
		end := &pb.ProcessEvent_EndEvent{ExitCode: code, Exited: exited, Status: status}
		if status != "exit status 0" {
			end.Error = &status
		}
		return end
	}
	noStdin := sh("readlink /proc/self/fd/0; cat")
	noStdin.Stdin = ptr(false)
	for _, test := range []struct {
		name           string
		req            *pb.StartRequest
		stdout, stderr string
		end            *pb.ProcessEvent_EndEvent
	}{
		{"tells output then success", command("echo", "hi", "there"), "hi there\n", "", exit(0, true, "exit status 0")},
		{"keeps both outputs apart", sh("echo out; echo err >&2"), "out\n", "err\n", exit(0, true, "exit status 0")},
		{"tells the exit code", sh("exit 3"), "", "", exit(3, true, "exit status 3")},
		{"tells the signal", sh("kill -9 $$"), "", "", exit(-1, false, "signal: killed")},
		{"carries bytes that are no text", sh(`printf '\377\000\376'`), "\xff\x00\xfe", "", exit(0, true, "exit status 0")},
		{"reads nothing without stdin", noStdin, "/dev/null\n", "", exit(0, true, "exit status 0")},
		{"shows an unknown program as a shell does", command("no-such-program"),
			"", "bulkhead: no-such-program: not found\n", exit(127, true, "exit status 127")},
		{"shows an unknown path as a shell does", command("/no/such"),
			"", "bulkhead: /no/such: not found\n", exit(127, true, "exit status 127")},
		{"shows a directory as not executable", command("/tmp"),
			"", "bulkhead: /tmp: permission denied\n", exit(126, true, "exit status 126")},
		{"shows a plain file as not executable", command("/etc/passwd"),
			"", "bulkhead: /etc/passwd: permission denied\n", exit(126, true, "exit status 126")},
		{"shows too many arguments", command("echo", strings.Repeat("x", 1<<20)),
			"", "bulkhead: echo: argument list too long\n", exit(126, true, "exit status 126")},
	} {
		for codec, opts := range codecs {
			t.Run(test.name+" in "+codec, func(t *testing.T) {
				r := newRig(t, nil, opts...)
				out := r.run(t, test.req)
				if out.err != nil || out.stdout != test.stdout || out.stderr != test.stderr {
					t.Errorf("got %q, %q, %v; want %q, %q", out.stdout, out.stderr, out.err, test.stdout, test.stderr)
				}
				if diff := cmp.Diff(test.end, out.end, protocmp.Transform()); diff != "" {
					t.Error("end differs (-want +got):\n" + diff)
				}
			})
		}
	}
}

func TestStartEnvironment(t *testing.T) {
	t.Setenv("AGENT_SECRET", "must not show")
	r := newRig(t, func(o *process.Options) {
		o.Env = func() map[string]string { return map[string]string{"FROM_HOST": "1", "BOTH": "host"} }
	})
	login := []string{
		"HOME=" + r.home, "LOGNAME=tester",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "USER=tester",
	}
	for _, test := range []struct {
		name string
		envs map[string]string
		want []string
	}{
		{"default variables follow the login's", nil, append([]string{"BOTH=host", "FROM_HOST=1"}, login...)},
		{"the request has the last word", map[string]string{"BOTH": "request", "EMPTY": ""},
			append([]string{"BOTH=request", "EMPTY=", "FROM_HOST=1"}, login...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := command("/usr/bin/env")
			req.Process.Envs = test.envs
			got := strings.Split(strings.TrimSpace(r.run(t, req).stdout), "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error("environment differs (-want +got):\n" + diff)
			}
		})
	}
	t.Run("programs are found along the request's path", func(t *testing.T) {
		dir := filepath.Join(r.home, "bin")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		// No #! line: run by the shell, as execvp(3) does.
		if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("echo mine $1"), 0o755); err != nil {
			t.Fatal(err)
		}
		closed := filepath.Join(t.TempDir(), "closed") // root's alone, like /root/bin in many an image's PATH
		if err := os.MkdirAll(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(closed, "mine"), []byte("echo root's"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct{ path, name string }{
			{dir, "mine"}, {"bin", "mine"}, {closed + ":/no/such:" + dir, "mine"}, {"", "bin/mine"}, {"", "./bin/mine"},
		} {
			req := command(test.name, "now")
			req.Process.Envs = map[string]string{"PATH": test.path}
			if got, want := r.run(t, req).stdout, "mine now\n"; got != want {
				t.Errorf("%s with PATH %s: got %q, want %q", test.name, test.path, got, want)
			}
		}
	})
}

func TestStartUserAndDirectory(t *testing.T) {
	r := newRig(t, nil)
	if err := os.Mkdir(filepath.Join(r.home, "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	where := "id -u; id -G; pwd"
	for _, test := range []struct {
		name, user string
		cwd        *string
		want       string
	}{
		{"default user starts at home", "", nil, "65534\n65534 4242\n" + r.home},
		{"root has its own ids", "root", ptr("/"), "0\n0\n/"},
		{"relative directory starts at home", "", ptr("work"), "65534\n65534 4242\n" + r.home + "/work"},
		{"tilde is the home", "", ptr("~/work"), "65534\n65534 4242\n" + r.home + "/work"},
		{"absolute directory is taken as it is", "tester", ptr("/usr/../tmp"), "65534\n65534 4242\n/tmp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := sh(where)
			m.Process.Cwd = test.cwd
			req := connect.NewRequest(m)
			if test.user != "" {
				req = as(test.user, m)
			}
			s, err := r.Start(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			out := &outcome{}
			startStream(s).collect(out, nil)
			if got, want := strings.TrimSpace(out.stdout), test.want; got != want {
				t.Errorf("got %q, want %q (%q, %v)", got, want, out.stderr, out.err)
			}
		})
	}
	t.Run("a default work directory comes before the home", func(t *testing.T) {
		r := newRig(t, func(o *process.Options) { o.Workdir = func() string { return "/usr" } })
		if got, want := r.run(t, sh("pwd")).stdout, "/usr\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("a missing home does not stop the start", func(t *testing.T) {
		if err := os.RemoveAll(r.home); err != nil {
			t.Fatal(err)
		}
		if got, want := r.run(t, sh("pwd")).stdout, "/\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestStartIsolatesTheAgent(t *testing.T) {
	r := newRig(t, nil)
	t.Run("kill 0 reaches only the program's own group", func(t *testing.T) {
		req := as("root", sh("kill -TERM 0; sleep 60"))
		s, err := r.Start(soon(t), req)
		if err != nil {
			t.Fatal(err)
		}
		out := &outcome{}
		startStream(s).collect(out, nil)
		if got, want := out.end.GetStatus(), "signal: terminated"; got != want {
			t.Errorf("got %q, want %q (%v)", got, want, out.err)
		}
	})
	t.Run("no descriptor of the agent is inherited", func(t *testing.T) {
		// Some may have come to this test from outside, for any child to have.
		want, err := exec.Command("ls", "/proc/self/fd").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.run(t, command("ls", "/proc/self/fd")).stdout; got != string(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestStartInCgroup(t *testing.T) {
	const root = "/sys/fs/cgroup/unified"
	dir := filepath.Join(root, fmt.Sprintf("bulkhead-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		if err := os.Mkdir(filepath.Join("/sys/fs/cgroup", filepath.Base(dir)), 0o755); err != nil {
			t.Skipf("no writable cgroup v2 hierarchy here: %v", err)
		}
		dir = filepath.Join("/sys/fs/cgroup", filepath.Base(dir))
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	t.Run("programs start inside", func(t *testing.T) {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r := newRig(t, func(o *process.Options) { o.Cgroup = func() (*os.File, func(), error) { return f, func() {}, nil } })
		for _, req := range []*pb.StartRequest{command("cat", "/proc/self/cgroup"), command("no-such-program")} {
			out := r.run(t, req)
			if out.end.GetExitCode() == 0 {
				mustContain(t, "control group", out.stdout, "/"+filepath.Base(dir))
			}
			if out.err != nil {
				t.Error(out.err)
			}
		}
	})
	t.Run("no group means no start", func(t *testing.T) {
		r := newRig(t, func(o *process.Options) {
			o.Cgroup = func() (*os.File, func(), error) { return nil, nil, errors.New("group is gone") }
		})
		s, err := r.Start(t.Context(), connect.NewRequest(command("true")))
		if err == nil {
			s.Receive()
			err = s.Err()
		}
		if got, want := connect.CodeOf(err), connect.CodeInternal; got != want {
			t.Errorf("got %v, want %v", err, want)
		}
	})
}
