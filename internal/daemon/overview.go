package daemon

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"bulkhead/client"
	"bulkhead/internal/daemon/front"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/page/terminal"
	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
)

// maxList bounds what a guest may say of what was started in it.
const maxList = 256 << 10

// source is where an overview comes from. It sees the sandboxes of all teams:
// who watches is told of theirs alone.
type source struct {
	f *front.Front
	o server.Options
}

func (s source) Sandboxes(ctx context.Context) ([]client.Sandbox, error) {
	all, err := s.o.E2B.Sandboxes.List(auth.With(ctx, auth.Operator()))
	for i := range all {
		all[i].AgentToken, all[i].TrafficToken = "", "" // a watcher may be one who only looks
	}
	return all, err
}

func (s source) Pending(ctx context.Context) ([]client.EgressQuestion, error) {
	return s.o.Questions.EgressPending(auth.With(ctx, auth.Operator()))
}

func (s source) Traffic(id string) (allowed, denied int, err error) { return s.f.Border.Counts(id) }

func (s source) Newest(id string) (*client.SnapshotMark, error) {
	_, snaps, err := s.f.Manager.Timeline(id)
	if err != nil || len(snaps) == 0 {
		return nil, nil // it has just been removed
	}
	last := snaps[len(snaps)-1]
	return &client.SnapshotMark{ID: string(last.ID), Name: last.Name, CreatedAt: last.Created, Cause: last.Cause}, nil
}

// Doing asks as the watchdog does, which is no use of the machine.
func (s source) Doing(ctx context.Context, id string) ([]string, error) {
	way, err := s.f.Probe(ctx, id)
	if err != nil {
		return nil, err
	}
	rpc := processconnect.NewProcessClient(&http.Client{Transport: way}, "http://guest", connect.WithReadMaxBytes(maxList))
	resp, err := rpc.List(ctx, connect.NewRequest(&process.ListRequest{}))
	if err != nil {
		return nil, err
	}
	var doing []string
	for _, p := range slices.Backward(resp.Msg.GetProcesses()) {
		doing = append(doing, command(p))
	}
	return doing, nil
}

// command says what a process is in a few words.
func command(p *process.ProcessInfo) string {
	if name, ok := strings.CutPrefix(p.GetTag(), terminal.Tagged); ok {
		return "shell of the console (" + name + ")"
	}
	return strings.Join(append([]string{p.GetConfig().GetCmd()}, p.GetConfig().GetArgs()...), " ")
}

func (s source) Host(context.Context) (client.HostLoad, error) {
	u, err := s.f.Pool.Usage()
	if err != nil {
		return client.HostLoad{}, err
	}
	total, free, err := hostMemory()
	return client.HostLoad{
		CPUs: runtime.NumCPU(), MemoryTotalMB: total, MemoryFreeMB: free, PoolTotal: u.Total, PoolFree: u.Free,
	}, err
}

// hostMemory is what the host has, and what of it programs can get, in MiB.
func hostMemory() (total, free int, err error) {
	b, err := os.ReadFile("/proc/meminfo") // proc_meminfo(5)
	if err != nil {
		return 0, 0, err
	}
	kib := map[string]int{}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 1 {
			kib[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	total, free = kib["MemTotal:"]>>10, kib["MemAvailable:"]>>10
	if total == 0 {
		return 0, 0, errors.New("/proc/meminfo does not say how much memory there is")
	}
	return total, free, nil
}
