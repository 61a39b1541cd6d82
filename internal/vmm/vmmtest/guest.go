package vmmtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/image"
)

// tinyImage is Debian's kernel with the tiny guest as /init.
func tinyImage(t *testing.T) image.Image {
	t.Helper()
	agent := filepath.Join(t.TempDir(), "guest")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", agent, "bulkhead/internal/vmm/vmmtest/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build guest: %v\n%s", err, out)
	}
	cache := os.Getenv("BULKHEAD_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "bulkhead-test")
	}
	img, err := (&image.Builder{Cache: cache}).Build(t.Context(), image.Recipe{Agent: agent}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// guest is a conversation with the tiny guest, line by line.
type guest struct {
	net.Conn
	in *bufio.Reader
}

func (m *machine) talk(t *testing.T) *guest {
	t.Helper()
	conn, err := m.Guest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return converse(t, conn)
}

func converse(t *testing.T, conn net.Conn) *guest {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	g := &guest{conn, bufio.NewReader(conn)}
	t.Cleanup(g.close)
	return g
}

func (g *guest) close() { g.Conn.Close() }

func (g *guest) ask(t *testing.T, what string) string {
	t.Helper()
	if _, err := fmt.Fprintln(g, what); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return g.line(t)
}

func (g *guest) line(t *testing.T) string {
	t.Helper()
	line, err := g.in.ReadString('\n')
	if err != nil {
		t.Fatalf("guest says %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}

func (g *guest) number(t *testing.T, what string) int {
	t.Helper()
	answer := g.ask(t, what)
	n, err := strconv.Atoi(answer)
	if err != nil {
		t.Fatalf("%s: guest says %q", what, answer)
	}
	return n
}

// untilOK reads up to and with the line that ends a stream.
func (g *guest) untilOK(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := g.in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			t.Fatalf("after %d bytes: %v", all.Len(), err)
		}
		if line == "ok\n" {
			return all.String()
		}
	}
}
