// Package sdk_test has the official SDKs of E2B, unmodified, drive a real host
// with real microVMs.
package sdk_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"bulkhead/test/harness"
)

// forward leads a TCP port to the daemon's socket.
func forward(t *testing.T, h *harness.Host) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	ctx, cut := context.WithCancel(context.Background())
	conns.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", h.Socket())
			if err != nil {
				in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { in.Close(); out.Close() })
			conns.Go(func() { io.Copy(in, out); in.Close() })
			conns.Go(func() { io.Copy(out, in); out.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); cut(); conns.Wait() })
	return "http://" + l.Addr().String()
}

func TestSDK(t *testing.T) {
	h := harness.New(t).Base()
	url := forward(t, h)
	for _, generation := range []string{"e2b", "e2b-first"} {
		t.Run(generation, func(t *testing.T) {
			files, err := filepath.Glob("scenarios/*.test.mjs")
			if err != nil {
				t.Fatal(err)
			}
			if only := os.Getenv("SCENARIO"); only != "" {
				files = []string{"scenarios/" + only + ".test.mjs"}
			}
			cmd := exec.CommandContext(t.Context(), "node", append([]string{"--test", "--test-concurrency=1", "--test-timeout=120000"}, files...)...)
			cmd.Env = append(os.Environ(), "SDK="+generation, "E2B_API_URL="+url, "E2B_SANDBOX_URL="+url,
				"E2B_API_KEY=e2b_0000000000000000000000000000000000000000")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err = cmd.Run()
			t.Log(out.String())
			if err != nil {
				t.Error(err)
			}
		})
	}
}
