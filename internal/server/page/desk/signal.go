package desk

import (
	"context"
	"strconv"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/fault"
)

// send sends signal $3 to process $1 if that was started at $2: its number may
// have gone to another since the operator saw it. What is behind the name in
// stat begins with field 3 of proc_pid_stat(5), so starttime (22) is the 20th.
const send = `pid=$1 started=$2 signal=$3
IFS= read -r stat <"/proc/$pid/stat" || { echo gone; exit; }
set -- ${stat##*) }
[ "${20}" = "$started" ] || { echo gone; exit; }
kill -s "$signal" "$pid" && echo sent`

// Signal has a process of a sandbox end. It returns fault.NotFound if that has
// ended by itself.
func (d *Desk) Signal(ctx context.Context, ref, pid string, s client.ProcessSignal) error {
	const bits = 32
	if n, err := strconv.ParseUint(pid, 10, bits); err != nil || n == 0 || s.Started < 0 {
		return fault.New(fault.Invalid, "%.32q is not the number of a process", pid)
	}
	signal := "TERM"
	if s.Kill {
		signal = "KILL"
	}
	out, _, err := d.output(ctx, ref, "/bin/sh", "-c", send, "sh", pid, strconv.FormatInt(s.Started, 10), signal)
	switch said := strings.TrimSpace(string(out)); {
	case err != nil:
		return err
	case said == "gone":
		return fault.New(fault.NotFound, "process %s has ended", pid)
	case said != "sent":
		return fault.New(fault.Unavailable, "the sandbox did not send the signal to process %s", pid)
	}
	return nil
}
