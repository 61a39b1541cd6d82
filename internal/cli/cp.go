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
				return usageError{errors.New("one of source and target is SANDBOX:/path, the other a path here")}
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

// copyIn packs the source here and has tar unpack it inside.
func (a *app) copyIn(ctx context.Context, source string, to inside, user string) error {
	if _, err := os.Lstat(source); err != nil {
		return usageError{err}
	}
	r, w := io.Pipe()
	defer r.Close()
	// Into a folder it goes under its own name, else under the target's.
	// What is at the target is for the guest to say.
	const script = `t=$1; n=$2; case $t in */) mkdir -p "$t";; esac
if [ -d "$t" ]; then d=$t; else d=$(dirname "$t"); n=$(basename "$t"); fi
mkdir -p "$d" && exec tar -C "$d" --no-same-owner --transform "s,^[^/]*,$n,S" -xpf -`
	name := filepath.Base(absolute(source))
	if strings.ContainsAny(name+to.path, ",&\\\n") {
		return usageError{fmt.Errorf("cannot copy %q: its name has one of , & \\ or a line break", name)}
	}
	go func() { w.CloseWithError(archive.Pack(w, source)) }()
	return a.tar(ctx, client.Exec{
		Sandbox: to.ref, User: user, Cmd: "sh", Args: []string{"-c", script, "cp", to.path, name}, Stdin: r, Stdout: io.Discard,
	})
}

func absolute(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	return abs
}

// copyOut has tar pack the source inside and unpacks it here, where it is
// hostile input.
func (a *app) copyOut(ctx context.Context, from inside, target, user string) error {
	dir, name := filepath.Split(absolute(target))
	if info, err := os.Stat(target); err == nil && info.IsDir() && !strings.HasSuffix(from.path, "/.") {
		dir, name = absolute(target), path.Base(path.Clean(from.path))
	} else if strings.HasSuffix(target, "/") {
		return usageError{fmt.Errorf("%s is not a folder", target)}
	}
	if name == "/" || name == "." || name == ".." || name == "" {
		return usageError{fmt.Errorf("cannot tell what to call %s here", from.path)}
	}
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := archive.Unpack(r, dir, name)
		r.CloseWithError(err)
		unpacked <- err
	}()
	err := a.tar(ctx, client.Exec{
		Sandbox: from.ref, User: user, Cmd: "tar",
		Args: []string{"-C", path.Dir(path.Clean(from.path)), "-cf", "-", "--", path.Base(path.Clean(from.path))}, Stdout: w,
	})
	w.CloseWithError(err) // nil reads as the end
	return errors.Join(err, <-unpacked)
}

// tar runs e, whose complaints become the error.
func (a *app) tar(ctx context.Context, e client.Exec) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var complaints bytes.Buffer
	e.Stderr = &bounded{w: &complaints, left: 2 << 10}
	code, err := cl.Exec(ctx, e)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("copy: in the sandbox: %s", oneLine(strings.TrimSpace(complaints.String())))
	}
	return nil
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
