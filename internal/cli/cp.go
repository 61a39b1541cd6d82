package cli

import (
	"bytes"
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

	"github.com/spf13/cobra"
)

func newCp(a *app) *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files and folders into or out of a sandbox",
		Long: "Copy a file or folder; one of the two is SANDBOX:/path. A target that ends in /\n" +
			"or is a folder gets the source inside it. Modes are kept, links stay links.",
		Example: "  bulkhead cp ./project otter:/root/\n  bulkhead cp otter:/var/log/syslog .",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			from, fromInside := splitRef(args[0])
			to, toInside := splitRef(args[1])
			switch {
			case fromInside == toInside:
				return usageError{error: errors.New("one of source and target is SANDBOX:/path, the other a path here")}
			case toInside:
				return a.copyIn(c.Context(), args[0], to, user)
			}
			return a.copyOut(c.Context(), from, args[1], user)
		},
	}
	c.Flags().StringVarP(&user, "user", "u", "root", "user inside")
	return c
}

// inside is a path in a sandbox.
type inside struct{ ref, path string }

// splitRef tells SANDBOX:/path from a path here, which may hold a colon if it
// begins with a dot or a slash.
func splitRef(arg string) (inside, bool) {
	ref, p, ok := strings.Cut(arg, ":")
	if !ok || ref == "" || strings.HasPrefix(arg, ".") || strings.Contains(ref, "/") {
		return inside{}, false
	}
	if p == "" {
		p = "."
	}
	return inside{ref, p}, true
}

// copyIn packs the source here and has tar unpack it inside. Into a folder it
// goes under its own name, else under the target's.
func (a *app) copyIn(ctx context.Context, source string, to inside, user string) error {
	source, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(source); err != nil {
		return usageError{error: err}
	}
	dir, name := to.path, filepath.Base(source)
	folder := strings.HasSuffix(dir, "/")
	if !folder {
		if folder, err = a.isFolder(ctx, to, user); err != nil {
			return err
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
		err := archive.Pack(w, source, name)
		w.CloseWithError(err)
		packed <- err
	}()
	_, err = a.inGuest(ctx, client.Exec{
		Sandbox: to.ref, User: user, Cmd: "sh", Stdin: r, Stdout: io.Discard,
		Args: []string{"-c", `mkdir -p -- "$1" && exec tar -C "$1" --no-same-owner -xpf -`, "cp", dir},
	})
	r.Close()
	// Tar inside takes a stream that breaks off for a whole one.
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return perr
	}
	return err
}

// isFolder asks the guest what is at a path.
func (a *app) isFolder(ctx context.Context, at inside, user string) (bool, error) {
	code, err := a.inGuest(ctx, client.Exec{
		Sandbox: at.ref, User: user, Cmd: "test", Args: []string{"-d", at.path}, Stdout: io.Discard,
	})
	if code == 1 {
		return false, nil
	}
	return err == nil, err
}

// copyOut has tar pack the source inside and unpacks it here, where it is
// hostile input.
func (a *app) copyOut(ctx context.Context, from inside, target, user string) error {
	full, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	source := path.Clean(from.path)
	parent, base := path.Dir(source), path.Base(source)
	if base == "/" {
		base = "."
	}
	dir, name := filepath.Split(full)
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		dir, name = full, base
	} else if strings.HasSuffix(target, "/") {
		return usageError{error: fmt.Errorf("%s is not a folder", target)}
	}
	if name == "." || name == "" || base == ".." {
		return usageError{error: fmt.Errorf("cannot tell what to call %s here", from.path)}
	}
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := archive.Unpack(r, dir, name)
		r.CloseWithError(err)
		unpacked <- err
	}()
	_, err = a.inGuest(ctx, client.Exec{
		Sandbox: from.ref, User: user, Cmd: "tar", Args: []string{"-C", parent, "-cf", "-", "--", base}, Stdout: w,
	})
	w.CloseWithError(err) // nil reads as the end
	if uerr := <-unpacked; err == nil {
		err = uerr
	}
	return err
}

// inGuest runs e. An exit code other than 0 is an error, which says what the
// command complained of.
func (a *app) inGuest(ctx context.Context, e client.Exec) (code int, err error) {
	cl, err := a.client()
	if err != nil {
		return 0, err
	}
	var complaints bytes.Buffer
	e.Stderr = &bounded{w: &complaints, left: 2 << 10}
	code, err = cl.Exec(ctx, e)
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
