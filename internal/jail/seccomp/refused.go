package seccomp

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// Unnamed stands for a system call of which the kernel's log says nothing: it
// tells the first ten within five seconds only (its printk_ratelimit), and
// none where another program takes the audit records.
const Unnamed = "one that the kernel's log does not name"

// Refused names the system call that ended a process, from what the
// kernel logged of it; "" if none did.
func Refused(pid int, status *os.ProcessState) string {
	if status == nil {
		return ""
	}
	if ws, ok := status.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGSYS {
		return ""
	}
	number, ok := loggedSyscall(pid)
	if !ok {
		return Unnamed
	}
	if name, ok := arch.X86_64.SyscallNumbers[number]; ok {
		return name
	}
	return strconv.Itoa(number)
}

const (
	// kmsgRecord is the most that a record of the kernel's log has, in bytes
	// (its documentation, ABI/testing/dev-kmsg).
	kmsgRecord = 8 << 10
	// kmsgLimit bounds the reading of a log that grows meanwhile.
	kmsgLimit = 2 * time.Second
)

// loggedSyscall finds the last audit record of a filter that ended pid:
// "audit: type=1326 … pid=123 … syscall=41 …" (audit_seccomp in the kernel).
func loggedSyscall(pid int) (number int, ok bool) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	line := regexp.MustCompile(fmt.Sprintf(`type=1326 .* pid=%d .* syscall=(\d+) `, pid))
	buf := make([]byte, kmsgRecord)
	for start := time.Now(); time.Since(start) < kmsgLimit; {
		n, err := unix.Read(fd, buf)
		if err == unix.EPIPE { // a record was overwritten meanwhile
			continue
		}
		if err != nil { // EAGAIN: there are no more
			break
		}
		if m := line.FindSubmatch(buf[:n]); m != nil {
			number, err = strconv.Atoi(string(m[1]))
			ok = err == nil
		}
	}
	return number, ok
}
