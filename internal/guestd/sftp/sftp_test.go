package sftp_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/guestd/sftp"
	"bulkhead/test/leak"

	client "github.com/pkg/sftp"
)

// A client writes, reads, links and renames, by absolute and relative paths; it
// gets the errors of the files, and its end is the server's.
func TestServe(t *testing.T) {
	leak.Check(t)
	t.Chdir(t.TempDir())
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	toServer, in := io.Pipe()
	fromServer, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- sftp.Serve(toServer, out)
		out.Close()
	}()
	c, err := client.NewClientPipe(fromServer, in)
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	f, err := c.Create("long")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(long); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(home, "long")); err != nil || !bytes.Equal(got, long) {
		t.Errorf("%d bytes arrived of %d, %v", len(got), len(long), err)
	}
	if err := c.Symlink("long", home+"/link"); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(home + "/link"); err != nil || to != "long" {
		t.Errorf("link leads to %q, %v", to, err)
	}
	if err := c.PosixRename(home+"/link", "renamed"); err != nil {
		t.Error(err)
	}
	if err := c.Chmod("long", 0o600); err != nil {
		t.Error(err)
	}
	if fi, err := c.Stat("renamed"); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != int64(len(long)) {
		t.Errorf("got %v, %v", fi, err)
	}
	if _, err := c.Open("/no/such/file"); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v, want %v", err, fs.ErrNotExist)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
