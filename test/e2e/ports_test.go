package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/test/harness"
)

// repeater listens on an address inside and repeats what it was told once it
// was told all.
const repeater = `systemd-run --quiet --collect python3 -c '
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    c, _ = s.accept()
    told = b"".join(iter(lambda: c.recv(4096), b""))
    c.sendall(b"told " + told)
    c.close()
' %s %d
until ss -ltn | grep -q :%[2]d; do sleep 0.1; done`

// What listens in a sandbox is reached from the host, on the guest's loopback
// too; what does not says so.
func TestPortsIn(t *testing.T) {
	h := host(t)
	b := h.Create("listens")
	for port, address := range map[int]string{7001: "127.0.0.1", 7002: "0.0.0.0"} {
		b.Sh(fmt.Sprintf(repeater, address, port))
		long := strings.Repeat("x", 1<<20)
		if r := h.CLIWith(long, "port", b.Name, fmt.Sprint(port)); r.Stdout != "told "+long {
			t.Errorf("%s: exit %d, %d bytes came back, %s", address, r.Code, len(r.Stdout), r.Stderr)
		}
	}
	if r := h.CLI("port", b.Name, "7003"); r.Code == 0 || !strings.Contains(r.Stderr, "nothing listens on port 7003") {
		t.Errorf("a port without a listener: exit %d, %s", r.Code, r.Stderr)
	}
	t.Run("forward", func(t *testing.T) { testForward(t, h, b) })
}

func testForward(t *testing.T, h *harness.Host, b *harness.Box) {
	cmd := h.Command(t.Context(), "forward", b.Name, "0:7001")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM) // a shell in the background has children ignore interrupts
		cmd.Wait()                          // it was ended
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	local, _, _ := strings.Cut(line, " ")
	for i := range 3 {
		conn, err := net.Dial("tcp", local)
		if err != nil {
			t.Fatalf("forward said %q: %v", line, err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(harness.Patience))
		fmt.Fprintf(conn, "call %d", i)
		conn.(*net.TCPConn).CloseWrite()
		if all, err := io.ReadAll(conn); err != nil || string(all) != fmt.Sprintf("told call %d", i) {
			t.Errorf("%q, %v", all, err)
		}
	}
}
