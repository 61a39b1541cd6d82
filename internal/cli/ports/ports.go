// Package ports is the commands that lead from the host to a port of a sandbox.
//
// What comes from there is what the user asked for: it is passed on as it is.
package ports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"bulkhead/internal/cli/app"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

// NewPort returns the command that connects standard input and output.
func NewPort(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "port SANDBOX PORT",
		Short: "Connect standard input and output to a port of a sandbox",
		Long: "Connect standard input and output to a TCP port of a sandbox, also one that listens on\n" +
			"the guest's localhost only. It ends when the guest ends the connection.",
		Example: "  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | bulkhead port otter 8080\n" +
			"  ssh -o ProxyCommand='bulkhead port otter 22' root@otter",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			port, err := parsePort(args[1])
			if err != nil || port == 0 {
				return fault.New(fault.Invalid, "%q is not a port from 1 to 65535", args[1])
			}
			return a.API.Port(ctx, args[0], port, a.Stdin, a.Stdout)
		}),
	}
}

// NewForward returns the command that listens on the host.
func NewForward(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use:   "forward SANDBOX [[ADDRESS:]LOCAL:]PORT...",
		Short: "Make ports of a sandbox ports of this host",
		Long: "Listen on ports of this host, of its localhost unless an address is given, and connect\n" +
			"each to a port of a sandbox, until it is interrupted. A local port of 0 is any that is\n" +
			"free. Whoever can connect to the local port reaches the sandbox.",
		Example: "  bulkhead forward otter 3000\n  bulkhead forward otter 8080:80 0:5432",
		Args:    cobra.MinimumNArgs(2), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error { return runForward(ctx, a, args[0], args[1:]) }),
	}
}

// forwarded is a port of the host's that leads to one of a sandbox.
type forwarded struct {
	Local string `json:"local"`
	Port  uint16 `json:"port"`

	listener net.Listener
}

func runForward(ctx context.Context, a *app.App, ref string, specs []string) (err error) {
	s, err := a.API.Sandbox(ctx, ref)
	if err != nil {
		return err
	}
	f := forwarder{App: a, ref: s.ID}
	defer func() { err = errors.Join(err, f.close()) }()
	for _, spec := range specs {
		local, port, err := parseForward(spec)
		if err != nil {
			return err
		}
		if err := f.listen(local, port); err != nil {
			return err
		}
	}
	err = a.Answer(f.all, func(w io.Writer) {
		for _, p := range f.all {
			fmt.Fprintf(w, "%s leads to port %d of %s\n", p.Local, p.Port, s.Name)
		}
	})
	if err != nil {
		return err
	}
	f.serve(ctx)
	return nil
}

// parseForward reads "3000", "8080:80" or "0.0.0.0:8080:80".
func parseForward(spec string) (local string, port uint16, err error) {
	host, number, rest := "127.0.0.1", spec, spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		number, rest = spec[:i], spec[i+1:]
		if j := strings.LastIndexByte(number, ':'); j >= 0 {
			host, number = strings.Trim(number[:j], "[]"), number[j+1:]
		}
		if _, err := parsePort(number); err != nil {
			return "", 0, fmt.Errorf("%q: %w", spec, err)
		}
	}
	if port, err = parsePort(rest); err != nil || port == 0 {
		return "", 0, fault.New(fault.Invalid, "%q does not end in a port from 1 to 65535", spec)
	}
	return net.JoinHostPort(host, number), port, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fault.New(fault.Invalid, "%q is not a port", text)
	}
	return uint16(n), nil
}

// forwarder serves local ports.
type forwarder struct {
	*app.App
	ref string
	all []forwarded
}

func (f *forwarder) listen(local string, port uint16) error {
	l, err := net.Listen("tcp", local)
	if err != nil {
		return err
	}
	f.all = append(f.all, forwarded{l.Addr().String(), port, l})
	return nil
}

func (f *forwarder) close() (err error) {
	for _, p := range f.all {
		if e := p.listener.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// serve serves until ctx ends and every connection has.
func (f *forwarder) serve(ctx context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	stop := context.AfterFunc(ctx, func() { _ = f.close() }) // closed again, and told, by whoever listened
	defer stop()
	for _, p := range f.all {
		open.Go(func() {
			for {
				conn, err := p.listener.Accept()
				if err != nil {
					return
				}
				open.Go(func() { f.connect(ctx, conn, p.Port) })
			}
		})
	}
}

// connect carries one connection. What goes wrong with it is told, and the
// next may go right.
func (f *forwarder) connect(ctx context.Context, conn net.Conn, port uint16) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := f.API.Port(ctx, f.ref, port, conn, conn); err != nil && ctx.Err() == nil {
		f.Say("port %d: %v", port, err)
	}
}
