package entry_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/entry"
)

// socketPath returns a path short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "s")
}

func TestListenIsPrivateAndCleansUp(t *testing.T) {
	path := socketPath(t)
	l, err := entry.Unix(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fi.Mode(), os.ModeSocket|0o600; got != want {
		t.Errorf("mode = %v, want %v", got, want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v, want it gone", err)
	}
}

func TestListenReplacesOnlyDeadSockets(t *testing.T) {
	t.Run("a socket of a killed daemon", func(t *testing.T) {
		path := socketPath(t)
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := entry.Unix(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a socket that is answered", func(t *testing.T) {
		path := socketPath(t)
		l, err := entry.Unix(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := entry.Unix(path, slog.New(slog.DiscardHandler)); !fault.Is(err, fault.Exists) {
			t.Errorf("Listen = %v, want a fault of kind %s", err, fault.Exists)
		}
	})
	t.Run("a file", func(t *testing.T) {
		path := socketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Unix(path, slog.New(slog.DiscardHandler)); !fault.Is(err, fault.Exists) {
			t.Errorf("Listen = %v, want a fault of kind %s", err, fault.Exists)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
			t.Errorf("file = %q, %v", b, err)
		}
	})
	t.Run("a folder that does not exist", func(t *testing.T) {
		if _, err := entry.Unix(filepath.Join(socketPath(t), "none"), slog.New(slog.DiscardHandler)); err == nil {
			t.Error("Listen succeeded")
		}
	})
}
