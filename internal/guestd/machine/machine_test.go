package machine_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkhead/internal/guestd/machine"
	pb "bulkhead/proto/machine"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// No test sets the clock: the host's cannot be kept apart.

func newService(t *testing.T) (*machine.Service, string, *machine.Freezer) {
	t.Helper()
	root := groups(t)
	f := newFreezer(t, root)
	s, err := machine.New(f, "1.2.3", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, root, f
}

func freeze(t *testing.T, s *machine.Service) {
	t.Helper()
	if _, err := s.Freeze(t.Context(), connect.NewRequest(&pb.FreezeRequest{})); err != nil {
		t.Fatalf("freeze: %v", err)
	}
}

func resume(t *testing.T, s *machine.Service, r *pb.ResumeRequest) (*pb.ResumeResponse, error) {
	t.Helper()
	got, err := s.Resume(t.Context(), connect.NewRequest(r))
	if err != nil {
		return nil, err
	}
	return got.Msg, nil
}

func status(t *testing.T, s *machine.Service) *pb.StatusResponse {
	t.Helper()
	got, err := s.Status(t.Context(), connect.NewRequest(&pb.StatusRequest{}))
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return got.Msg
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	oneID     = "0123456789abcdef0123456789abcdef"
	anotherID = "00000000000000000000000000000000"
)

func TestResumeTakesOnIdentity(t *testing.T) {
	if !inGuest(t) {
		return
	}
	key := filepath.Join(mkdir(t, "/etc/ssh"), "ssh_host_ed25519_key")
	_, err := exec.LookPath("ssh-keygen")
	hasKeys := err == nil
	if hasKeys {
		put(t, key, "shared by all")
		put(t, "/etc/passwd", "root:x:0:0::/:/bin/sh\n") // it asks who it runs as
	} else {
		t.Log("without ssh-keygen: host keys are not tested")
	}
	s, _, f := newService(t)
	boot := status(t, s).GetBootId()
	for _, id := range []*pb.Identity{
		{Hostname: "one", MachineId: oneID, Env: map[string]string{"A": "1", "EMPTY": "", "B": "x=y\nz"}, User: "agent", Workdir: "/srv/app"},
		{Hostname: "another-1", MachineId: anotherID, Env: map[string]string{"C": "3"}},
	} {
		freeze(t, s)
		got, err := resume(t, s, &pb.ResumeRequest{Identity: id, Entropy: make([]byte, 64)})
		if err != nil || got.GetThawed() || !f.Frozen() {
			t.Fatalf("answer %v, error %v, want that it is still frozen", got, err)
		}
		if got, err = resume(t, s, &pb.ResumeRequest{Thaw: true}); err != nil || !got.GetThawed() || got.GetUnixNanos() == 0 {
			t.Fatalf("answer %v, error %v, want that it has thawed", got, err)
		}
		is := []string{hostname(t), read(t, "/etc/hostname"), read(t, "/etc/machine-id")}
		if diff := cmp.Diff([]string{id.Hostname, id.Hostname + "\n", id.MachineId + "\n"}, is); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
		before := boot
		boot = status(t, s).GetBootId()
		form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		if boot == before || !form.MatchString(boot) {
			t.Errorf("boot id %q after %q", boot, before)
		}
		if hasKeys && strings.Contains(read(t, key), "shared by all") {
			t.Error("the host key is still the one that all have")
		}
		again, err := machine.New(f, "1.2.3", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for who, s := range map[string]*machine.Service{"this agent": s, "the next agent": again} {
			if diff := cmp.Diff(id.Env, s.Env()); diff != "" {
				t.Errorf("variables of %s (-want +got):\n%s", who, diff)
			}
			if got, want := [2]string{s.User(), s.Workdir()}, [2]string{id.User, id.Workdir}; got != want {
				t.Errorf("defaults of %s are %q, want %q", who, got, want)
			}
		}
	}
	if fi, err := os.Stat("/run/bulkhead/env"); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("kept variables: %v, error %v, want that only root reads them", fi, err)
	}
	mounts := read(t, "/proc/self/mountinfo")
	if n := strings.Count(mounts, "/random/boot_id"); n != 1 {
		t.Errorf("%d mounts on the boot id, want 1", n)
	}
}

func TestResumeRefuses(t *testing.T) {
	if !inGuest(t) {
		return
	}
	s, _, f := newService(t)
	was := hostname(t)
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		name string
		r    *pb.ResumeRequest
	}{
		{"no host name", &pb.ResumeRequest{Identity: &pb.Identity{MachineId: oneID}}},
		{"a host name of 64 bytes", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: long, MachineId: oneID}}},
		{"a host name that begins with a dash", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "-a", MachineId: oneID}}},
		{"a host name that ends with a dash", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a-", MachineId: oneID}}},
		{"a host name that is a dash", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "-", MachineId: oneID}}},
		{"upper case", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "A", MachineId: oneID}}},
		{"a domain", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a.b", MachineId: oneID}}},
		{"a second line", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a\nb", MachineId: oneID}}},
		{"a NUL", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a\x00", MachineId: oneID}}},
		{"letters beyond ASCII", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "ä", MachineId: oneID}}},
		{"no machine id", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a"}}},
		{"a short machine id", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a", MachineId: oneID[1:]}}},
		{"a long machine id", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a", MachineId: oneID + "0"}}},
		{"a machine id in upper case", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a", MachineId: strings.ToUpper(oneID)}}},
		{"a machine id with a line end", &pb.ResumeRequest{Identity: &pb.Identity{Hostname: "a", MachineId: oneID[1:] + "\n"}}},
		{"too much entropy", &pb.ResumeRequest{Entropy: make([]byte, 513)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			freeze(t, s)
			tt.r.Thaw = true
			if got, err := resume(t, s, tt.r); err == nil {
				t.Errorf("accepted: %v", got)
			}
			if !f.Frozen() {
				t.Error("it runs, though it is not right")
			}
			if got := hostname(t); got != was {
				t.Errorf("its name is %q now", got)
			}
		})
	}
	t.Run("nothing at the bounds", func(t *testing.T) {
		id := &pb.Identity{Hostname: long[1:], MachineId: oneID}
		if _, err := resume(t, s, &pb.ResumeRequest{Identity: id, Entropy: make([]byte, 512), Thaw: true}); err != nil {
			t.Errorf("resume: %v", err)
		}
	})
}

// A fork of a damaged machine is a machine of its own all the same.
func TestResumeTakesOnIdentityWhenDamaged(t *testing.T) {
	if !inGuest(t) {
		return
	}
	s, _, _ := newService(t)
	become := func(t *testing.T, name string) {
		t.Helper()
		freeze(t, s)
		id := &pb.Identity{Hostname: name, MachineId: oneID, Env: map[string]string{"NAME": name}}
		before := status(t, s).GetBootId()
		if got, err := resume(t, s, &pb.ResumeRequest{Identity: id, Thaw: true}); err != nil || !got.GetThawed() {
			t.Fatalf("answer %v, error %v, want that it has thawed", got, err)
		}
		if got := hostname(t); got != name {
			t.Errorf("its name is %q, want %q", got, name)
		}
		if diff := cmp.Diff(id.Env, s.Env()); diff != "" {
			t.Errorf("variables (-want +got):\n%s", diff)
		}
		if got := status(t, s).GetBootId(); got == before {
			t.Errorf("its boot id is still %s", got)
		}
	}
	t.Run("no program makes host keys", func(t *testing.T) {
		t.Setenv("PATH", "/none")
		key := filepath.Join(mkdir(t, "/etc/ssh"), "ssh_host_ed25519_key")
		put(t, key, "shared by all")
		become(t, "keyless")
		if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the host key that all have: error %v, want that it is gone", err)
		}
		if got := read(t, "/etc/machine-id"); got != oneID+"\n" {
			t.Errorf("machine id %q", got)
		}
	})
	t.Run("nothing can be written", func(t *testing.T) {
		if err := unix.Mount("", "/etc", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		become(t, "readonly")
	})
	t.Run("files and folders have changed places", func(t *testing.T) {
		if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		mkdir(t, "/etc/hostname")
		put(t, "/etc/ssh", "")
		become(t, "mixed")
	})
}

// A guest may remove every file that it has. It must come back from a
// snapshot of that all the same.
func TestResumeWithoutAnyFile(t *testing.T) {
	if !inGuest(t) {
		return
	}
	s, root, f := newService(t)
	counters := startCounters(t, root, f)
	freeze(t, s)
	empty := t.TempDir()
	if err := unix.Chroot(empty); err != nil {
		t.Fatal(err)
	}
	id := &pb.Identity{Hostname: "fork", MachineId: oneID}
	got, err := resume(t, s, &pb.ResumeRequest{Entropy: make([]byte, 64), Identity: id, Thaw: true})
	if err != nil || !got.GetThawed() {
		t.Fatalf("answer %v, error %v, want that it has thawed", got, err)
	}
	var names unix.Utsname
	if err := unix.Uname(&names); err != nil || unix.ByteSliceToString(names.Nodename[:]) != id.Hostname {
		t.Errorf("its name is %q, error %v, want %q", names.Nodename, err, id.Hostname)
	}
	for _, c := range counters {
		c.awaitMove()
	}
	freeze(t, s)
	if st := status(t, s); !st.GetFrozen() || st.GetBootId() != "" {
		t.Errorf("status %v, want frozen without a boot id", st)
	}
	if got, err = resume(t, s, &pb.ResumeRequest{Thaw: true}); err != nil || !got.GetThawed() {
		t.Errorf("answer %v, error %v, want that it has thawed", got, err)
	}
}

func TestStatus(t *testing.T) {
	if !inGuest(t) {
		return
	}
	s, _, _ := newService(t)
	word := func(script string) {
		dir := mkdir(t, "/tmp/bin")
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	}
	word("echo degraded; exit 1")
	check := func(init string, frozen bool) {
		t.Helper()
		got := status(t, s)
		if got.GetInitState() != init || got.GetFrozen() != frozen || got.GetAgentVersion() != "1.2.3" {
			t.Errorf("status %v, want init %q, frozen %v", got, init, frozen)
		}
	}
	check("none", false)
	mkdir(t, "/run/systemd/system")
	check("degraded", false)
	freeze(t, s)
	check("", true) // its init is frozen too and would not answer
}

func TestStats(t *testing.T) {
	if !inGuest(t) {
		return
	}
	s, _, _ := newService(t)
	got, err := s.Stats(t.Context(), connect.NewRequest(&pb.StatsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if m := got.Msg; m.GetMemTotalBytes() == 0 || m.GetMemUsedBytes() > m.GetMemTotalBytes() || m.GetCpuCount() == 0 {
		t.Errorf("stats %v", m)
	}
}
