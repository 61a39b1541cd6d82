package leak

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// watch waits on its standard input. A line means that its parent had done
// with it; the end of the input without one, that the parent died. Then it
// kills what has the folder $1 in its command line, and what is in a cage whose
// lease names it (package jail), and becomes the rest of its arguments.
const watch = `
read -r _ && exit
trap "" PIPE # whoever read our standard error may have died with our parent
dir=$1
shift
for p in /proc/[0-9]*; do
	pid=${p#/proc/}
	[ "$pid" != $$ ] && tr "\0" "\n" 2>/dev/null <"$p/cmdline" | grep -qF -- "$dir" && kill -KILL "$pid"
done
for lease in /run/bulkhead/uids/[0-9]*; do
	grep -qsF -- "\"dir\":\"$dir/" "$lease" || continue
	for p in /proc/[0-9]*; do
		[ "$(stat -c %u "$p" 2>/dev/null)" = "${lease##*/}" ] && kill -KILL "${p#/proc/}"
	done
	for group in /sys/fs/cgroup/*/bulkhead/u"${lease##*/}" /sys/fs/cgroup/bulkhead/u"${lease##*/}"; do
		while [ -d "$group" ] && ! rmdir "$group" 2>/dev/null && [ -s "$group/cgroup.procs" ]; do :; done
	done
	rm -f "$lease"
done
exec "$@"`

// Guard starts a process that does nothing as long as this one lives. When
// this one dies, be it by SIGKILL, it kills every process that has dir in its
// command line or runs in a cage that was made for it, and runs argv to remove what else is left. It is in a session
// of its own, so that what interrupts a test run does not end it too.
//
// The caller calls done when it has cleaned up by itself.
func Guard(dir string, argv ...string) (done func() error, err error) {
	r, w, err := os.Pipe() // closed on exec, so only this process holds w
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", watch, "guard", dir}, argv...)...)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start guard of %s: %w", dir, err)
	}
	return func() error {
		defer w.Close()
		if _, err := w.WriteString("\n"); err != nil {
			return fmt.Errorf("dismiss guard of %s: %w", dir, err)
		}
		return cmd.Wait()
	}, nil
}

// Guardian is Guard until the end of a test.
func Guardian(t testing.TB, dir string, argv ...string) {
	t.Helper()
	done, err := Guard(dir, argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := done(); err != nil {
			t.Error(err)
		}
	})
}
