// Command attack-report runs the attack battery against this host and prints
// its report as a page of the documentation.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"bulkhead/internal/attack"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon"
	"bulkhead/internal/jail"

	"golang.org/x/sys/unix"
)

func main() {
	jail.Enter()
	attack.Enter()
	if err := report(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "attack-report:", err)
		os.Exit(1)
	}
}

const intro = `# Attack report

What whoever took over a VMM process would try, and what stops it. This page is
made by ` + "`make attack-report`" + `; ` + "`bulkhead doctor --attack`" + ` does the same on any host.

Each attempt is made three times, in a process of its own that stands in the VMM's
place: free, as root on the host, where it has to work, or it proves nothing; in a
cage without its filter of system calls, which shows the wall behind that; and in the
whole cage. A name in capitals is the error that the attempt met; "memory",
"processes" and "file size" are limits that it reached. A dash means that nothing
but the filter stops it: mostly because it does no harm inside the cage.

Measured on Linux %s on %s, with the cage of a QEMU machine.

| attempt | stopped by | without the filter |
|---|---|---|
`

func report(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "attack-report")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg, err := config.Load(config.Source{Override: map[string]string{"state_dir": dir}})
	if err != nil {
		return err
	}
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return err
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(host.Release[:]), "-")
	fmt.Fprintf(w, intro, release, unix.ByteSliceToString(host.Machine[:]))
	holes, tried := 0, 0
	d := daemon.Daemon{Config: cfg, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
	err = d.Attack(ctx, nil, func(f attack.Finding) {
		tried++
		fmt.Fprintln(w, row(f))
		if !f.Holds {
			holes++
		}
	})
	if err == nil && holes > 0 {
		err = fmt.Errorf("%d of %d attempts were not stopped as they must be", holes, tried)
	}
	fmt.Fprintf(w, "\n%d attempts, %d not stopped.\n", tried, holes)
	return err
}

func row(f attack.Finding) string {
	stopped, behind := f.Expected, f.Unfiltered
	switch {
	case !f.Holds:
		stopped = "**" + f.Got + "**, must be " + f.Expected
	case f.Useless != "":
		behind = f.Useless
	case behind == "":
		behind = "-"
	}
	return fmt.Sprintf("| %s | %s | %s |", f.Attempt, stopped, behind)
}
