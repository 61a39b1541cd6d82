// Package machine is the agent's machine service: what only the host asks
// for. It freezes the guest for a snapshot, and makes a restored machine right
// before it lets anything run.
//
// The host is the authority: nothing here thaws by itself. The service needs
// no file of the guest but kernel interfaces that it holds open or that cannot
// be removed, so it works in a guest whose root file system is gone.
package machine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/guestd/trust"
	"bulkhead/internal/guestd/vitals"
	"bulkhead/proto/machine"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// Service implements the machine service.
type Service struct {
	freezer *Freezer
	// random is the kernel's generator, open before anything can remove it.
	random *os.File
	// generation is what programs see of it; nil for none.
	generation *os.File
	version    string
	log        *slog.Logger

	store trust.Store
	// health is what the machine was like when the agent began.
	health health

	mu  sync.Mutex
	env map[string]string // guarded by mu; what the host gave with the identity
	// defaults are what holds for clients that do not say; guarded by mu.
	defaults map[string]string
	// placeholders stand for secrets; guarded by mu.
	placeholders map[string]string
	// refresh is set while hooks have to run once the guest has thawed; guarded
	// by mu.
	refresh bool
}

// New returns the service. version is the agent's.
func New(f *Freezer, version string, log *slog.Logger) (*Service, error) {
	random, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return &Service{
		freezer: f, random: random, version: version, log: log, store: trust.Store{Root: "/"}, health: examine(),
		env: kept(envFile), defaults: kept(defaultsFile), placeholders: kept(placeholderFile),
	}, nil
}

// Env returns the variables that the host gave to this machine's processes.
func (s *Service) Env() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	env := map[string]string{}
	maps.Copy(env, s.store.Env())
	maps.Copy(env, s.env)
	maps.Copy(env, s.placeholders)
	return env
}

// User is who acts for clients that name nobody; "" if the host has not said.
func (s *Service) User() string { return s.fallback(defaultUser) }

// Workdir is where what names no directory starts; "" if the host has not said.
func (s *Service) Workdir() string { return s.fallback(defaultWorkdir) }

func (s *Service) fallback(which string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.defaults[which]
}

// Status implements the call of that name.
func (s *Service) Status(ctx context.Context, _ *connect.Request[machine.StatusRequest]) (*connect.Response[machine.StatusResponse], error) {
	r := &machine.StatusResponse{AgentVersion: s.version, Frozen: s.freezer.Frozen(), BootId: bootID()}
	if !r.Frozen { // init is frozen too, and would not answer
		r.InitState = initState(ctx)
	}
	return connect.NewResponse(r), nil
}

// initState asks systemd how far it is.
func initState(ctx context.Context) string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "none"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", "is-system-running")
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output() // its code repeats its word
	return strings.TrimSpace(string(out))
}

func bootID() string {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Sync implements the call of that name.
func (s *Service) Sync(context.Context, *connect.Request[machine.SyncRequest]) (*connect.Response[machine.SyncResponse], error) {
	unix.Sync()
	return connect.NewResponse(&machine.SyncResponse{}), nil
}

// Freeze implements the call of that name.
func (s *Service) Freeze(ctx context.Context, _ *connect.Request[machine.FreezeRequest]) (*connect.Response[machine.FreezeResponse], error) {
	n, err := s.freezer.Freeze(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewResponse(&machine.FreezeResponse{Groups: uint32(n)}), nil
}

// Resume implements the call of that name. The order matters: nothing thaws
// before everything else is right.
func (s *Service) Resume(ctx context.Context, req *connect.Request[machine.ResumeRequest]) (*connect.Response[machine.ResumeResponse], error) {
	m := req.Msg
	if m.GetUnixNanos() != 0 {
		if err := setClock(m.GetUnixNanos()); err != nil {
			return nil, internal("set clock", err)
		}
	}
	if len(m.GetEntropy()) > 0 {
		if err := reseed(s.random, m.GetEntropy()); err != nil {
			return nil, internal("reseed randomness", err)
		}
		if err := s.nextGeneration(); err != nil { // a guest can spoil it
			s.log.WarnContext(ctx, "programs are not told to reseed", "err", err)
		}
	}
	if id := m.GetIdentity(); id != nil {
		damage, err := become(ctx, id)
		if err != nil {
			return nil, internal("take on identity", err)
		}
		if damage != nil {
			s.log.WarnContext(ctx, "identity is incomplete", "err", damage)
		}
		s.mu.Lock()
		s.env, s.defaults = id.GetEnv(), defaultsOf(id)
		s.mu.Unlock()
	}
	if t := m.GetTrust(); t != nil {
		s.trust(ctx, t)
	}
	if m.GetThaw() {
		if err := s.freezer.Thaw(); err != nil {
			return nil, internal("thaw", err)
		}
	}
	s.refreshOnce()
	return connect.NewResponse(&machine.ResumeResponse{
		UnixNanos: time.Now().UnixNano(), Thawed: !s.freezer.Frozen(),
	}), nil
}

// Stats implements the call of that name.
func (s *Service) Stats(context.Context, *connect.Request[machine.StatsRequest]) (*connect.Response[machine.StatsResponse], error) {
	v, err := vitals.Read()
	if err != nil {
		return nil, internal("read counters", err)
	}
	return connect.NewResponse(&machine.StatsResponse{
		MemTotalBytes: v.MemTotal, MemUsedBytes: v.MemUsed, MemCacheBytes: v.MemCache,
		DiskTotalBytes: v.Disk, DiskUsedBytes: v.DiskUsed,
		CpuCount: uint32(v.CPUs), CpuBusyNanos: uint64(v.CPUBusy.Nanoseconds()),
	}), nil
}

func internal(what string, err error) error {
	return connect.NewError(connect.CodeInternal, fmt.Errorf("%s: %w", what, err))
}
