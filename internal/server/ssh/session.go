package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkhead/client"

	"golang.org/x/crypto/ssh"
)

// Bounds of one session.
const (
	// maxEnv and maxEnvBytes bound the variables that a client sets.
	maxEnv, maxEnvBytes = 128, 64 << 10
	// maxCells bounds a terminal in each direction, in characters.
	maxCells = 4096
	// farewell is how long a program has to end whose client has gone.
	farewell = 2 * time.Second
)

// failed is the exit code of what could not be run, as of the stock client.
const failed = 255

// session is a channel in which one program runs in the guest.
type session struct {
	*connection
	ssh.Channel

	env      map[string]string
	envBytes int
	terminal *client.Size
	resize   chan client.Size // holds the latest
	signals  chan int
	program  *program // nil before one was asked for
	ended    chan struct{}
}

// session serves one channel until it is closed.
func (c *connection) session(ctx context.Context, asked ssh.NewChannel) {
	channel, requests, err := asked.Accept()
	if err != nil {
		return // the client is gone
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{
		connection: c, Channel: channel, env: map[string]string{},
		resize: make(chan client.Size, 1), signals: make(chan int, 8), ended: make(chan struct{}),
	}
	for r := range requests {
		asked := s.program
		ok := s.handle(r)
		if r.WantReply {
			_ = r.Reply(ok, nil) // the client is gone
		}
		if s.program != asked { // after the answer, which is nothing once it has ended
			s.open.Go(func() { s.run(ctx) })
		}
	}
	s.leave(cancel)
	channel.Close()
}

// leave ends a program whose client has gone: it is told as by a terminal that
// was hung up, and may go on if it does not mind.
func (s *session) leave(cancel context.CancelFunc) {
	defer cancel()
	if s.program == nil {
		return
	}
	s.pass(signalOf("HUP"))
	select {
	case <-s.ended:
		return
	case <-time.After(farewell):
	}
	cancel()
	<-s.ended
}

// handle does what is asked of a session and reports whether it can be done.
func (s *session) handle(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		return s.setEnv(r.Payload)
	case "pty-req":
		return s.setTerminal(r.Payload)
	case "window-change":
		return s.setSize(r.Payload)
	case "signal":
		var m struct{ Name string }
		return ssh.Unmarshal(r.Payload, &m) == nil && s.pass(signalOf(m.Name))
	case "shell":
		return s.start(loginShell())
	case "exec":
		var m struct{ Command string }
		return ssh.Unmarshal(r.Payload, &m) == nil && s.start(loginShell(m.Command))
	case "subsystem":
		var m struct{ Name string }
		return ssh.Unmarshal(r.Payload, &m) == nil && m.Name == "sftp" && s.start(fileServer())
	}
	return false // X11, agents and what else there may be
}

func (s *session) setEnv(payload []byte) bool {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(payload, &m) != nil || m.Name == "" || strings.ContainsAny(m.Name, "=\x00") || strings.Contains(m.Value, "\x00") {
		return false
	}
	size := s.envBytes + len(m.Name) + len(m.Value)
	if s.program != nil || len(s.env) >= maxEnv || size > maxEnvBytes {
		return false
	}
	s.env[m.Name], s.envBytes = m.Value, size
	return true
}

// setTerminal reads what is asked of a terminal (RFC 4254, section 6.2). Its
// modes are the guest's usual ones.
func (s *session) setTerminal(payload []byte) bool {
	var m struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	if ssh.Unmarshal(payload, &m) != nil || s.program != nil || strings.Contains(m.Term, "\x00") || len(m.Term) > maxText {
		return false
	}
	if m.Term != "" {
		s.env["TERM"] = m.Term
	}
	size := sizeOf(m.Cols, m.Rows)
	s.terminal = &size
	return true
}

// setSize passes on a new size of the terminal (RFC 4254, section 6.7): the
// latest, if they come faster than they are taken.
func (s *session) setSize(payload []byte) bool {
	var m struct{ Cols, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &m) != nil || s.terminal == nil {
		return false
	}
	size := sizeOf(m.Cols, m.Rows)
	for {
		select {
		case s.resize <- size:
			return true
		default:
		}
		select {
		case <-s.resize:
		default:
		}
	}
}

func sizeOf(cols, rows uint32) client.Size {
	return client.Size{Cols: min(cols, maxCells), Rows: min(rows, maxCells)}
}

// pass passes a signal on, unless it is none or many wait.
func (s *session) pass(signal int) bool {
	if signal == 0 || s.program == nil {
		return false
	}
	select {
	case s.signals <- signal:
		return true
	default:
		return false
	}
}

// start has the one program of a session run once that was answered.
func (s *session) start(p program) bool {
	if s.program != nil {
		return false
	}
	s.program = &p
	return true
}

// run runs the program and closes the channel.
func (s *session) run(ctx context.Context) {
	defer close(s.ended)
	defer s.Channel.Close()
	err := s.refusal
	var exit client.Exit
	if err == nil {
		exit, err = s.api.Run(ctx, client.Exec{
			Sandbox: s.who.machine, Cmd: s.program.cmd, Args: s.program.args, Env: s.env,
			Stdin: s.Channel, Stdout: s.Channel, Stderr: s.Channel.Stderr(),
			Terminal: s.terminal, Resize: s.resize, Signals: s.signals,
		})
	}
	if err != nil {
		// Whoever is gone needs no answer, here and below.
		fmt.Fprintf(s.Channel.Stderr(), "bulkhead: %s\r\n", plain(err.Error()))
		exit = client.Exit{Code: failed}
	}
	_ = s.Channel.CloseWrite()
	s.tell(exit)
	if errors.Is(err, client.ErrCutOff) {
		s.cutIfGone(ctx)
	}
}

// tell says how the program ended (RFC 4254, section 6.10).
func (s *session) tell(exit client.Exit) {
	name, known := signalNames()[exit.Signal]
	if !known {
		_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(exit.Code)}))
		return
	}
	_, _ = s.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		Core       bool
		Text, Lang string
	}{name, exit.Core, "", ""}))
}
