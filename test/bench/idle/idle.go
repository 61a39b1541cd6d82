// Package idle is a server of HTTP that does nothing but answer: what the daemon
// is compared with. It is this same program again, in a process of its own as
// the daemon is one.
//
// idle must not know who asks it for what. A Server is stopped by who started
// it.
package idle

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

// Arg is the one argument with which this program calls Serve.
const Arg = "idle-server"

// Server is one that runs. To GET /n it answers with n bytes, below 2 MiB.
type Server struct {
	URL string
	cmd *exec.Cmd
	end io.Closer
}

// Start starts one, which ends with its input, so with this process at the
// latest.
func Start(ctx context.Context) (*Server, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", Arg)
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
	s := &Server{cmd: cmd, end: in}
	if _, err := fmt.Fscanln(out, &s.URL); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// PID is the number of its process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop ends it.
func (s *Server) Stop() error { return errors.Join(s.end.Close(), s.cmd.Wait()) }

// Serve answers until its input ends.
func Serve() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseUint(r.URL.Path[1:], 10, 21)
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
