package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// standInName is the argument 0 that makes the agent's binary a stand-in. A
// guest that starts one itself gets a line of its own words and nothing else.
const standInName = "bulkhead-stand-in"

// StandIn must be the first call of main in the binary that holds a Service.
// It returns at once, unless this process was started as a stand-in: then it
// says on its standard error why a program could not be executed, and exits
// with the shell's code for that.
//
// So a client sees a program that does not exist as every shell shows it: a
// process with a pid, one line, and exit code 127. /proc/self/exe works even
// when no file is left in the guest.
func StandIn() {
	if len(os.Args) != 3 || os.Args[0] != standInName {
		return
	}
	code, err := strconv.Atoi(os.Args[1])
	if err != nil {
		code = 126
	}
	fmt.Fprintln(os.Stderr, os.Args[2])
	os.Exit(code)
}

// standIn starts a process in place of a program that cannot be executed
// because of cause. A cause that is not the program's fault is returned.
func standIn(name string, cause error, attr *os.ProcAttr) (*os.Process, error) {
	code, why := refusal(cause)
	if code == 0 {
		return nil, cause
	}
	const maxName = 256 // it may have failed because it is too long
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	argv := []string{standInName, strconv.Itoa(code), fmt.Sprintf("bulkhead: %s: %s", name, why)}
	bare := *attr
	bare.Env = []string{} // nil would inherit the agent's
	return os.StartProcess("/proc/self/exe", argv, &bare)
}

// refusal returns the exit code and words of a shell for a program that cannot
// be executed (POSIX 2.8.2, "Exit Status for Commands"), 0 for other errors.
func refusal(err error) (code int, why string) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return 0, ""
	}
	switch errno {
	case syscall.ENOENT:
		return 127, "not found"
	case syscall.ENOEXEC, syscall.EINVAL, syscall.ELIBBAD:
		return 126, "not a program for this machine"
	case syscall.EACCES, syscall.EPERM, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP,
		syscall.E2BIG, syscall.ENAMETOOLONG, syscall.ETXTBSY, syscall.EIO:
		return 126, errno.Error()
	}
	return 0, ""
}
