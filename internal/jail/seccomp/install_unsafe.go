package seccomp

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Install has the kernel filter this thread's system calls, for good. Without
// a filter, on a degraded host, it does nothing.
func Install(filter []Op) error {
	if len(filter) == 0 {
		return nil
	}
	if len(filter) > unix.BPF_MAXINSNS {
		return errors.New("filter is too long")
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	runtime.KeepAlive(filter)
	return err
}
