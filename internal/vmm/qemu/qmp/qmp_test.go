package qmp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/vmm/qemu/qmp"

	"golang.org/x/sys/unix"
)

// fakeVMM listens as QEMU does: it greets, accepts qmp_capabilities, and has
// answer say what to send for each further command.
func fakeVMM(t *testing.T, answer func(cmd string, id uint64) string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "qmp.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, `{"QMP": {"version": {}, "capabilities": ["oob"]}}`+"\n")
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			var c struct {
				Execute string
				ID      uint64
			}
			if json.Unmarshal(lines.Bytes(), &c) != nil {
				return
			}
			said := fmt.Sprintf(`{"return": {}, "id": %d}`, c.ID)
			if c.Execute != "qmp_capabilities" {
				said = answer(c.Execute, c.ID)
			}
			if said == "hang up" {
				return
			}
			io.WriteString(conn, said+"\n")
		}
	}()
	return path
}

func dial(t *testing.T, path string, onEvent func(qmp.Event)) *qmp.Conn {
	t.Helper()
	c, err := qmp.Dial(t.Context(), path, onEvent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnswersAndEvents(t *testing.T) {
	events := make(chan string, 4)
	path := fakeVMM(t, func(cmd string, id uint64) string {
		return fmt.Sprintf("{\"event\": \"STOP\"}\n{\"return\": {\"cmd\": %q}, \"id\": %d}", cmd, id)
	})
	c := dial(t, path, func(e qmp.Event) { events <- e.Name })
	for _, cmd := range []string{"stop", "cont"} {
		got, err := c.Do(t.Context(), cmd, map[string]int{"a": 1})
		if err != nil || string(got) != fmt.Sprintf(`{"cmd": %q}`, cmd) {
			t.Errorf("%s: %s, %v", cmd, got, err)
		}
		if e := <-events; e != "STOP" {
			t.Errorf("event %s", e)
		}
	}
}

func TestRefusalIsAnError(t *testing.T) {
	path := fakeVMM(t, func(_ string, id uint64) string {
		return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": %q}, "id": %d}`, strings.Repeat("no ", 500), id)
	})
	_, err := dial(t, path, func(qmp.Event) {}).Do(t.Context(), "cont", nil)
	var refused *qmp.Error
	if !errors.As(err, &refused) || len(err.Error()) > 400 || !strings.HasPrefix(err.Error(), "no no") {
		t.Errorf("got %v", err)
	}
}

// A VMM that says what nobody asked for ends the connection, nothing else.
func TestHostileVMM(t *testing.T) {
	for _, tt := range []struct{ name, said string }{
		{"hangs up", "hang up"},
		{"answers another command", `{"return": {}, "id": 999}`},
		{"answers twice", "{\"return\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 2}\n{\"return\": {}, \"id\": 2}"},
		{"sends no JSON", "hello"},
		{"sends no end", strings.Repeat("x", qmp.MaxLine+1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, fakeVMM(t, func(string, uint64) string { return tt.said }), func(qmp.Event) {})
			for range 3 { // sooner or later it shows
				if _, err := c.Do(t.Context(), "query-status", nil); err != nil {
					<-c.Done()
					return
				}
			}
			t.Error("all was fine")
		})
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	path := fakeVMM(t, func(string, uint64) string {
		asked <- struct{}{}
		return "" // an empty line is no answer, and breaks the connection later
	})
	c := dial(t, path, func(qmp.Event) {})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.Do(ctx, "stop", nil); err == nil {
		t.Fatal("a command without an answer succeeded")
	}
	<-c.Done()
	if _, err := c.Do(t.Context(), "stop", nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("after that: %v", err)
	}
}

// The handshake that fails leaves no connection and no reader.
func TestHandshakeFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(conn, "{\"error\": {\"desc\": \"busy\"}, \"id\": 1}\n")
		io.Copy(io.Discard, conn) // until the client has hung up
	}()
	if c, err := qmp.Dial(t.Context(), path, func(qmp.Event) {}); err == nil {
		c.Close()
		t.Fatal("handshake succeeded")
	}
	<-ended
}

func TestFileTravelsAlong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan error, 1)
	go func() { got <- receiveFile(l) }()
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := dial(t, path, func(qmp.Event) {})
	if _, err := c.DoFile(t.Context(), "getfd", map[string]string{"fdname": "state"}, file); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file.Name()); err != nil || string(b) != "from the VMM" {
		t.Errorf("file holds %q, %v", b, err)
	}
}

// receiveFile answers two commands and writes to the file that came with the
// second.
func receiveFile(l *net.UnixListener) error {
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer conn.Close()
	for id := 1; id <= 2; id++ {
		buf, oob := make([]byte, 4096), make([]byte, 128)
		_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return err
		}
		if n > 0 {
			msgs, err := unix.ParseSocketControlMessage(oob[:n])
			if err != nil {
				return err
			}
			fds, err := unix.ParseUnixRights(&msgs[0])
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fds[0]), "state")
			io.WriteString(f, "from the VMM")
			f.Close()
		}
		fmt.Fprintf(conn, "{\"return\": {}, \"id\": %d}\n", id)
	}
	return nil
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte(`{"event": "MIGRATION", "data": {"status": "completed"}}` + "\n"))
	f.Add([]byte(`{"return": {}, "id": 1}` + "\n"))
	f.Add([]byte("{\"id\": -1}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		for i := 0; qmp.ReadLine(r) == nil; i++ {
			if i > len(in) {
				t.Fatal("more messages than bytes")
			}
		}
	})
}
