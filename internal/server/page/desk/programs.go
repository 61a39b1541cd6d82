package desk

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/proto/process"
)

// look prints what procfs knows of processes and ports, as records that end in
// a zero byte and begin with the file's name: nothing in these files can hold a
// zero byte but the ends of arguments, so no process can write another's record.
const look = `exec grep -azHs '' /proc/uptime /proc/[0-9]*/stat /proc/[0-9]*/cmdline /proc/net/tcp /proc/net/tcp6`

const (
	// maxLook bounds what look prints; 2,000 processes are some 1 MiB.
	maxLook = 4 << 20
	// maxCommand bounds a command line that is shown, maxProcesses how many are.
	maxCommand, maxProcesses, maxPorts = 1000, 5000, 1000
	// kthreadd is the parent of the kernel's own processes.
	kthreadd = 2
	// startField is the place of starttime in proc_pid_stat(5) behind the name.
	startField = 19
	// Values of a Linux guest on x86-64: USER_HZ and the size of a page.
	ticks, page = 100, 4096
)

// Programs answers with what runs in a sandbox.
func (d *Desk) Programs(ctx context.Context, ref string) (client.Programs, error) {
	out, own, err := d.output(ctx, ref, "/bin/sh", "-c", look)
	if err != nil {
		return client.Programs{}, err
	}
	all := parse(out)
	all.Processes = slices.DeleteFunc(all.Processes, func(p client.Process) bool { return p.PID == own })
	return all, nil
}

// output runs a program and returns what it prints, however it ends, and which
// process it was.
func (d *Desk) output(ctx context.Context, ref, cmd string, args ...string) (out []byte, pid int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	programs, err := d.processes(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	no := false
	stream, err := programs.Start(ctx, connect.NewRequest(&process.StartRequest{
		Process: &process.ProcessConfig{Cmd: cmd, Args: args}, Stdin: &no,
	}))
	if err != nil {
		return nil, 0, explain("run "+cmd, err)
	}
	defer stream.Close()
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		if event.GetEnd() != nil {
			return out, pid, nil
		}
		pid = max(pid, int(event.GetStart().GetPid()))
		out = append(out, event.GetData().GetStdout()...)
		if len(out) > maxLook {
			return nil, 0, fault.New(fault.Exhausted, "the sandbox says more of its processes than %d MiB", maxLook>>20)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, 0, explain("run "+cmd, err)
	}
	return nil, 0, fault.New(fault.Unavailable, "the sandbox did not say what runs in it")
}

// parse reads what look prints. What cannot be read is left out.
func parse(out []byte) client.Programs {
	known := map[int]*client.Process{}
	commands := map[int][]string{}
	all := client.Programs{Processes: []client.Process{}, Ports: []client.Port{}}
	uptime := 0.0
	var order []int
	for record := range bytes.SplitSeq(out, []byte{0}) {
		file, text, ok := strings.Cut(string(record), ":")
		if !ok {
			continue
		}
		switch pid, what := procFile(file); what {
		case "uptime":
			first, _, _ := strings.Cut(text, " ")
			uptime = number(first)
		case "stat":
			if p, ok := stat(text, uptime); ok && p.Parent != kthreadd && p.PID != kthreadd && known[pid] == nil && len(order) < maxProcesses {
				known[pid] = &p
				order = append(order, pid)
			}
		case "cmdline":
			commands[pid] = append(commands[pid], text)
		case "tcp", "tcp6":
			all.Ports = append(all.Ports, listening(text)...)
		}
	}
	for _, pid := range order {
		p := known[pid]
		if line := strings.TrimSpace(strings.Join(commands[pid], " ")); line != "" {
			p.Command = line
		}
		p.Command = strings.ToValidUTF8(p.Command[:min(len(p.Command), maxCommand)], "?")
		all.Processes = append(all.Processes, *p)
	}
	all.Ports = distinct(all.Ports)
	return all
}

// procFile tells "/proc/17/stat" into 17 and "stat", "/proc/net/tcp" into "tcp".
func procFile(file string) (pid int, what string) {
	parts := strings.Split(file, "/")
	if len(parts) == 4 {
		pid, _ = strconv.Atoi(parts[2])
	}
	return pid, parts[len(parts)-1]
}

// stat reads a line of proc_pid_stat(5). The name in it may hold anything.
func stat(line string, uptime float64) (p client.Process, ok bool) {
	begin, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if begin < 0 || end < begin {
		return p, false
	}
	fields := strings.Fields(line[end+1:])
	const least = 22 // up to rss
	if len(fields) < least {
		return p, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line[:begin]))
	parent, perr := strconv.Atoi(fields[1])
	if err != nil || perr != nil {
		return p, false
	}
	return client.Process{
		PID: pid, Parent: parent, Command: line[begin+1 : end], State: fields[0][:1],
		CPUSeconds:  (number(fields[11]) + number(fields[12])) / ticks,
		AgeSeconds:  max(0, uptime-number(fields[startField])/ticks),
		Started:     int64(min(number(fields[startField]), math.MaxInt32*ticks)),
		MemoryBytes: int64(min(number(fields[21])*page, math.MaxInt32*page)),
	}, true
}

// number reads a number that is not negative; 0 for anything else.
func number(s string) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		return 0
	}
	return f
}

// listening reads the sockets of proc_net_tcp in the state LISTEN.
func listening(table string) (all []client.Port) {
	const listen = "0A" // include/net/tcp_states.h
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listen {
			continue
		}
		addr, hex, ok := strings.Cut(f[1], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if !ok || err != nil || port == 0 {
			continue
		}
		// 127.0.0.0/8 and ::1, in the byte order of the guest.
		loopback := len(addr) == 8 && strings.HasSuffix(addr, "7F") || addr == "00000000000000000000000001000000"
		all = append(all, client.Port{Port: int(port), Loopback: loopback})
	}
	return all
}

// distinct lists each port once. One that is open to the network is, whatever
// listens on loopback too.
func distinct(ports []client.Port) []client.Port {
	at := map[int]int{}
	all := []client.Port{}
	for _, p := range ports {
		if i, ok := at[p.Port]; ok {
			all[i].Loopback = all[i].Loopback && p.Loopback
			continue
		}
		if len(all) == maxPorts {
			break
		}
		at[p.Port] = len(all)
		all = append(all, p)
	}
	return all
}
