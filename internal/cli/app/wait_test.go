package app_test

import (
	"bytes"
	"strings"
	"testing"

	"bulkhead/internal/cli/app"

	"github.com/creack/pty"
)

// On a terminal it is said what is waited for, and no trace of that stays.
func TestWait(t *testing.T) {
	screen, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	defer terminal.Close()
	a := app.App{Env: app.Env{Stderr: terminal}, Output: "text"}
	done := a.Wait("looking")
	var shown strings.Builder
	read := func(until string) {
		buf := make([]byte, 100)
		for !strings.Contains(shown.String(), until) {
			n, err := screen.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			shown.Write(buf[:n])
		}
	}
	read("looking ... 1s")
	done()
	done()
	read("s\r\x1b[K")
}

// What is no terminal gets nothing.
func TestWaitWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	a := app.App{Env: app.Env{Stderr: &out}, Output: "text"}
	a.Wait("looking")()
	if out.Len() > 0 {
		t.Errorf("it says %q", out.String())
	}
}
