// Package fd gives system calls a file's descriptor without spoiling the file.
//
// os.File.Fd makes a file blocking, after which deadlines no longer wake its
// readers. Use does not, and holds the descriptor open while it is used. The
// package knows nothing else and is safe for concurrent use.
package fd

import (
	"errors"
	"os"
)

// Use runs fn with f's descriptor and returns its error. The descriptor is
// valid until fn returns. A closed f is an error, and fn does not run.
func Use(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) { inner = fn(int(fd)) })
	return errors.Join(err, inner)
}
