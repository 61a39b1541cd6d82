package server_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/server"
	"bulkhead/internal/server/e2b"
	"bulkhead/internal/server/entry"
)

// TestOtherUsersAreRefused connects as another user through a socket that
// everybody may open.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("connecting as another user needs root")
	}
	var calls []string
	a := start(t, recorded(&calls))
	for path, mode := range map[string]os.FileMode{filepath.Dir(a.socket): 0o755, a.socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	type result struct {
		c   net.Conn
		err error
	}
	dialed := make(chan result)
	go func() {
		// Credentials are a thread's; this one ends with its goroutine.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			dialed <- result{nil, errno}
			return
		}
		c, err := net.Dial("unix", a.socket)
		dialed <- result{c, err}
	}()
	r := <-dialed
	if r.err != nil {
		t.Fatal(r.err)
	}
	_, _ = io.WriteString(r.c, "DELETE /sandboxes/i1 HTTP/1.1\r\nHost: x\r\n\r\n") // may be too late
	if b, err := io.ReadAll(r.c); len(b) > 0 {
		t.Errorf("answer = %q, %v; want none", b, err)
	}
	if err := r.c.Close(); err != nil {
		t.Error(err)
	}
	if status, _, _ := do(t, a, "GET", "/health", ""); status != 204 {
		t.Errorf("health for root = %d, want 204", status)
	}
	if len(calls) > 0 {
		t.Errorf("calls = %v, want none", calls)
	}
	if want := `err="user 65534 may not use the API"`; !strings.Contains(a.log.String(), want) {
		t.Errorf("log = %s\nwant %s", a.log, want)
	}
}

func TestShutdownFinishesCallsAndCutsStreams(t *testing.T) {
	called, proceed := make(chan struct{}), make(chan struct{})
	var f fake
	f.fakeSnapshots.rollback = func(ctx context.Context, _ string, _ client.RollbackRequest) (client.RollbackResult, error) {
		close(called)
		<-proceed
		return client.RollbackResult{DurationMS: 3}, ctx.Err()
	}
	f.events = func(ctx context.Context, _ server.EventQuery) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			if yield(client.Event{Seq: 1}, nil) {
				<-ctx.Done()
			}
		}
	}
	a := start(t, f)

	stream := get(t, a, "/events?follow=1")
	lines := bufio.NewReader(stream.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"seq":1,`) {
		t.Fatalf("first event = %q, %v", line, err)
	}
	rolledBack := make(chan string)
	go func() {
		status, body, _ := do(t, a, "POST", "/sandboxes/i1/rollback", "{}")
		rolledBack <- http.StatusText(status) + " " + body
	}()
	<-called

	a.stop()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("stream at shutdown = %q, %v; want its end", rest, err)
	}
	close(proceed)
	if got := <-rolledBack; !strings.HasPrefix(got, "OK ") || !strings.Contains(got, `"durationMS":3`) {
		t.Errorf("call under way at shutdown = %s, want its result", got)
	}
	if err := <-a.done; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	if _, err := os.Lstat(a.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Serve: %v, want it gone", err)
	}
}

// get sends a GET and returns the answer with its body open.
func get(t *testing.T, a *api, path string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://host"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestServeReportsBrokenListener(t *testing.T) {
	s := server.New(server.Options{E2B: &e2b.API{}, Log: quietLog()})
	l, err := entry.Unix(socketPath(t), quietLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), server.Door{Listener: l, Guard: server.Root}); err == nil {
		t.Error("Serve on a closed listener succeeded")
	}
}
