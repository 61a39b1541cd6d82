// Package transfer copies files and folders between here and a sandbox: tar
// runs inside, package archive works here, and a stream goes between them.
//
// What runs inside, and what it sends, is the guest's to decide. So a copy out
// is bounded by what the host knows of the sandbox, and nothing here depends on
// what the guest says but what is laid down.
//
// transfer knows package client, no command. It has no state.
package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/cli/archive"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"
)

// Path is a path in a sandbox, or, as in otter@monday, in a snapshot of one. A
// relative one begins at the user's home.
type Path struct{ Sandbox, Path string }

// Parse tells SANDBOX:/path from a path here, which may hold a colon if it
// begins with a dot or a slash.
func Parse(arg string) (p Path, inside bool) {
	ref, path, ok := strings.Cut(arg, ":")
	if !ok || ref == "" || strings.HasPrefix(arg, ".") || strings.Contains(ref, "/") {
		return Path{}, false
	}
	return Path{ref, cmp.Or(path, ".")}, true
}

// Transfer is how to copy.
type Transfer struct {
	API *client.Client
	// User is who reads and owns the files inside.
	User string
	// Say tells the user, in one line of visible text, what is left out.
	Say func(format string, args ...any)
}

// In copies the file or folder at source into a sandbox. Into a folder it goes
// under its own name, else under the target's; a target that ends in a slash
// is a folder, which is made if it is missing. What was copied before an error
// stays.
func (t Transfer) In(ctx context.Context, source string, to Path) (tally archive.Tally, err error) {
	if source, err = filepath.Abs(source); err != nil {
		return tally, err
	}
	dir, name := to.Path, filepath.Base(source)
	if source, err = filepath.EvalSymlinks(source); err != nil {
		return tally, fault.New(fault.Invalid, "%w", err)
	}
	folder := strings.HasSuffix(dir, "/")
	if !folder {
		if folder, err = t.isFolder(ctx, to); err != nil {
			return tally, err
		}
	}
	if !folder {
		dir, name = path.Dir(dir), path.Base(dir)
	}
	if name == "/" { // all that there is here, as the content of a folder there
		name = "."
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := archive.Pack(w, source, name, &tally)
		w.CloseWithError(err)
		packed <- err
	}()
	_, err = t.inGuest(ctx, to, client.Exec{
		Cmd: "sh", Stdin: r,
		Args: []string{"-c", `mkdir -p -- "$1" && exec tar -C "$1" --no-same-owner -xpf -`, "cp", dir},
	})
	r.Close()
	// Tar inside takes a stream that breaks off for a whole one.
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		err = perr
	}
	return tally, err
}

// isFolder asks the guest what is at a path.
func (t Transfer) isFolder(ctx context.Context, at Path) (bool, error) {
	code, err := t.inGuest(ctx, at, client.Exec{Cmd: "test", Args: []string{"-d", at.Path}})
	if code == 1 {
		return false, nil
	}
	return err == nil, err
}

// pack is the script that packs $1, which may be a link, or lead through one.
const pack = `p=$(realpath -e -- "$1") || exit
if [ -d "$p" ]; then exec tar -C "$p" -cf - .; fi
exec tar -C "${p%/*}/" -cf - -- "${p##*/}"`

// Out copies the file or folder at from to here. Into a folder it goes under
// its own name, else under the target's. What was copied before an error
// stays.
func (t Transfer) Out(ctx context.Context, from Path, target string) (tally archive.Tally, err error) {
	to, err := place(from.Path, target)
	if err != nil {
		return tally, err
	}
	ref, _, _ := strings.Cut(from.Sandbox, "@")
	s, err := t.API.Sandbox(ctx, ref)
	if err != nil {
		return tally, err
	}
	// No guest has more than this; one that sends more is making it up.
	to.MaxBytes, to.LeftOut = int64(s.DiskMB+s.MemoryMB)<<20, t.leftOut()
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := t.inGuest(ctx, from, client.Exec{Cmd: "sh", Args: []string{"-c", pack, "cp", from.Path}, Stdout: w})
		w.CloseWithError(err) // nil reads as the end
		sent <- err
	}()
	tally, err = archive.Unpack(r, to)
	r.CloseWithError(err)
	// What broke the stream says more than that it broke.
	return tally, cmp.Or(<-sent, err)
}

// place decides where the source inside goes here: into a folder under its own
// name, else under the target's.
func place(source, target string) (to archive.Target, err error) {
	full, err := filepath.Abs(target)
	if err != nil {
		return to, err
	}
	base := path.Base(path.Clean(source))
	to.Dir, to.Name = filepath.Split(full)
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		to.Dir, to.Name = full, base
	} else if strings.HasSuffix(target, "/") {
		return to, fault.New(fault.Invalid, "%s is not a folder", target)
	}
	if to.Name == "." || to.Name == "/" || to.Name == "" || base == ".." {
		return to, fault.New(fault.Invalid, "cannot tell what to call %s here", source)
	}
	return to, nil
}

// leftOut tells what a copy leaves out, the first few by name.
func (t Transfer) leftOut() func(name, why string) {
	const most = 10
	n := 0
	return func(name, why string) {
		switch n++; {
		case n <= most:
			t.Say("left out %s: %s", show.Clip(show.OneLine(name), 200), why)
		case n == most+1:
			t.Say("left out more; --output json says how many")
		}
	}
}

// inGuest runs e. An exit code other than 0 is an error, which says what the
// command complained of.
func (t Transfer) inGuest(ctx context.Context, at Path, e client.Exec) (code int, err error) {
	var complaints bytes.Buffer
	e.Sandbox, e.User, e.Stderr = at.Sandbox, t.User, &bounded{w: &complaints, left: 2 << 10}
	code, err = t.API.Exec(ctx, e)
	if err == nil && code != 0 {
		err = fmt.Errorf("copy: in the sandbox: %s (exit status %d)", show.OneLine(complaints.String()), code)
	}
	return code, err
}

// bounded passes on the first bytes and drops the rest.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
