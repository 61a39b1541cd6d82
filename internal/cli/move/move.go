// Package move is the commands that take files, or a whole sandbox, from one place
// to another.
package move

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/cli/tty"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

// NewExport returns bulkhead export.
func NewExport(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "export SANDBOX[@SNAPSHOT]|SNAPSHOT FILE",
		Short: "Write a whole sandbox to one file",
		Long: "Write one moment of a sandbox to a file, or to standard output for -: memory, disk,\n" +
			"device state and policy, checksummed and compressed; secrets stay here. The sandbox\n" +
			"goes on. The file is a tar archive compressed by zstd; bulkhead import brings it back,\n" +
			"on any host with the same VMM and CPU.",
		Example:           "  bulkhead export otter otter.bulkhead\n  bulkhead export otter@monday - | ssh other bulkhead import -",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.CompleteSandboxes,
		RunE:              a.Ask(func(ctx context.Context, args []string) error { return export(ctx, a, args[0], args[1]) }),
	}
}

func export(ctx context.Context, a *app.App, moment, path string) error {
	ref, snapshot, err := a.Moment(ctx, moment)
	if err != nil {
		return err
	}
	if path == "-" {
		return a.API.Export(ctx, ref, snapshot, a.Stdout)
	}
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Exists, "there is something at %s already", path).Hint("choose another file")
	}
	part := path + ".part" // what is at path is whole
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p := newProgress(a, "written")
	err = a.API.Export(ctx, ref, snapshot, io.MultiWriter(f, p))
	p.End()
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return a.Answer(map[string]any{"file": path, "bytes": p.n}, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %s\n", path, show.Bytes(p.n))
	})
}

// NewImport returns bulkhead import.
func NewImport(a *app.App) *cobra.Command {
	var as string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a sandbox of what bulkhead export wrote",
		Long: "Make a sandbox of a file that bulkhead export wrote, or of standard input for -. It\n" +
			"goes on from the moment of the export, as a sandbox of its own: with its own identity,\n" +
			"and the policy that it had. Secrets are to be set here anew.",
		Example: "  bulkhead import otter.bulkhead --name otter",
		Args:    cobra.ExactArgs(1),
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			in := io.Reader(a.Stdin)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fault.New(fault.Invalid, "%w", err)
				}
				defer f.Close()
				in = f
			}
			p := newProgress(a, "read")
			s, err := a.API.Import(ctx, as, io.TeeReader(bufio.NewReader(in), p))
			p.End()
			if err != nil {
				return err
			}
			return a.Answer(s, func(w io.Writer) { fmt.Fprintln(w, s.Name) })
		}),
	}
	c.Flags().StringVarP(&as, "name", "n", "", "name (the one that it had)")
	return c
}

// progress says on a terminal how far it is, now and then.
type progress struct {
	show.Progress
	verb string

	mu sync.Mutex // import's request may still read while it is answered
	n  int64      // guarded by mu
}

func newProgress(a *app.App, verb string) *progress {
	return &progress{Progress: show.Progress{W: a.Stderr, Live: a.Output == "text" && tty.Is(a.Stderr)}, verb: verb}
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	const step = 8 << 20
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.n / step
	if p.n += int64(len(b)); p.n/step > before {
		p.Line(show.Bytes(p.n) + " " + p.verb)
	}
	return len(b), nil
}

// End leaves nothing of it on the terminal.
func (p *progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Progress.End()
}
