package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
)

// idleServer has this program be a server that does nothing but answer, in a
// process of its own as the daemon is one.
const idleServer = "idle-server"

// idle is such a server.
type idle struct {
	url string
	cmd *exec.Cmd
	end io.Closer
}

// startIdle starts one, which ends with its input, so with this process at the
// latest.
func startIdle(ctx context.Context) (*idle, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", idleServer)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &idle{cmd: cmd, end: in}
	if _, err := fmt.Fscanln(out, &s.url); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *idle) stop() error { return errors.Join(s.end.Close(), s.cmd.Wait()) }

// asked are questions to this server, which gives answers that are as long.
func (s *idle) asked(q questions) questions {
	alike := questions{client: pooled(), base: s.url, key: q.key}
	for _, n := range q.sizes {
		alike.paths = append(alike.paths, fmt.Sprintf("/%d", n))
	}
	return alike
}

// serveIdle answers with as many bytes as a path says, until its input ends.
func serveIdle() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseUint(r.URL.Path[1:], 10, 20)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(make([]byte, n)) // who asked may have left
	}
	srv := &http.Server{Handler: http.HandlerFunc(answer)}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		srv.Close()
	}()
	fmt.Printf("http://%s\n", l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
