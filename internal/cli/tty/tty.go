// Package tty lends the user's terminal, and what its keys make signals of, to
// a program in a sandbox.
//
// It knows what package client asks of a program's surroundings, no daemon and
// no command. It takes over signals of this whole process, so only one program
// at a time can have them.
package tty

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"bulkhead/client"

	"golang.org/x/term"
)

// Is reports whether v, a file or what wraps one, is a terminal.
func Is(v any) bool {
	f, ok := v.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Password reads a line that is not shown as it is typed.
func Password(f *os.File) (string, error) {
	b, err := term.ReadPassword(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("read from terminal: %w", err)
	}
	return string(b), nil
}

// Lend gives e a terminal as large as f, or of 80 by 24 if f is none. If e
// also gets f as its input, f becomes raw, so that keys arrive unchanged.
// The caller gives f back.
func Lend(f *os.File, e *client.Exec) (giveBack func(), err error) {
	e.Terminal = &client.Size{Cols: 80, Rows: 24}
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	restore := func() {}
	if e.Stdin != nil {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("set terminal: %w", err)
		}
		restore = func() { _ = term.Restore(fd, old) } // the terminal may be gone
	}
	stop := followSize(fd, e)
	return func() { stop(); restore() }, nil
}

// followSize keeps the size of e's terminal that of ours, until stop.
func followSize(fd int, e *client.Exec) (stop func()) {
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH) // before the first look, so as to miss no change
	if w, h, err := term.GetSize(fd); err == nil {
		e.Terminal = &client.Size{Cols: uint32(w), Rows: uint32(h)}
	}
	sizes, done, ended := make(chan client.Size), make(chan struct{}), make(chan struct{})
	e.Resize = sizes
	go func() {
		defer close(ended)
		for {
			select {
			case <-winch:
			case <-done:
				return
			}
			w, h, err := term.GetSize(fd)
			if err != nil {
				continue
			}
			select {
			case sizes <- client.Size{Cols: uint32(w), Rows: uint32(h)}:
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(winch)
		close(done)
		<-ended
	}
}

// errGaveUp is the cause when the user would not wait for a program's end.
var errGaveUp = errors.New("gave up waiting: the command may still run")

// Signals passes requests to end on to e: the first asks it, the second kills
// it. With the third, nobody waits for it any more: the returned context ends,
// because a guest that hangs must not hang us. Until stop, a pipe without a
// reader is an error of the write rather than the end of this process, so that
// e can be told.
func Signals(ctx context.Context, e *client.Exec) (_ context.Context, stop func()) {
	ctx, giveUp := context.WithCancelCause(ctx)
	in := make(chan os.Signal, 3)
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM)
	out, ended := make(chan int, 2), make(chan struct{})
	e.Signals = out
	go func() {
		defer close(ended)
		for n := range 3 {
			select {
			case <-in:
			case <-ctx.Done():
				return
			}
			switch n {
			case 0:
				out <- int(syscall.SIGTERM)
			case 1:
				out <- int(syscall.SIGKILL)
			case 2:
				giveUp(errGaveUp)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(in)
		signal.Reset(syscall.SIGPIPE)
		giveUp(nil)
		<-ended
	}
}
