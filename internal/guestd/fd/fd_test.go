package fd_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/fd"
)

func TestUse(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(w, "four"); err != nil {
		t.Fatal(err)
	}
	var waiting int
	if err := fd.Use(r, func(fd int) (err error) {
		waiting, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	}); err != nil || waiting != 4 {
		t.Errorf("got %d, %v; want 4", waiting, err)
	}
	if err := fd.Use(r, func(int) error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the function's error", err)
	}
	w.Close()
	if err := fd.Use(w, func(int) error { t.Error("ran on a closed file"); return nil }); err == nil {
		t.Error("a closed file is no error")
	}
}
