// Package qmp speaks QEMU's machine protocol: JSON lines over a unix socket,
// commands answered in order, events in between.
//
// The other end is a VMM that a guest may have taken over, so everything it
// sends is bounded and nothing it says is trusted beyond its shape. qmp knows
// no machine: it carries commands.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLine bounds one message. The longest answer that we ask for has a few
// hundred bytes.
const maxLine = 1 << 20

// ErrClosed is returned for commands on a connection that has ended.
var ErrClosed = errors.New("qmp: connection closed")

// Error is QEMU's refusal of a command.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error returns QEMU's words, clipped.
func (e *Error) Error() string {
	const most = 300
	if len(e.Desc) > most {
		return e.Desc[:most] + "..."
	}
	return e.Desc
}

// Event is something that QEMU reports by itself.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

type message struct {
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
	Event
	ID *uint64 `json:"id"`
}

// Conn is a connection after the handshake. Its methods are safe for
// concurrent use; commands wait for each other.
type Conn struct {
	sock    *net.UnixConn
	onEvent func(Event)

	sending chan struct{} // holds a token for whoever has a command under way
	answers chan message
	done    chan struct{} // closed when reading has ended

	mu   sync.Mutex
	next uint64 // guarded by mu
}

// Dial connects to the socket at path and performs the handshake. onEvent is
// called for each event, in order, from the reading goroutine: it must not
// block and must not call Do.
func Dial(ctx context.Context, path string, onEvent func(Event)) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		sock: nc.(*net.UnixConn), onEvent: onEvent,
		sending: make(chan struct{}, 1), answers: make(chan message, 1),
		done: make(chan struct{}),
	}
	c.sending <- struct{}{}
	go c.read()
	if _, err := c.Do(ctx, "qmp_capabilities", nil); err != nil {
		c.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return c, nil
}

// Close ends the connection and waits for its reader.
func (c *Conn) Close() error {
	err := c.sock.Close()
	<-c.done
	return err
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

func (c *Conn) read() {
	defer close(c.done)
	defer c.sock.Close()
	r := bufio.NewReader(c.sock)
	for {
		m, err := readMessage(r)
		if err != nil {
			return
		}
		switch {
		case m.Name != "":
			c.onEvent(m.Event)
		case m.ID != nil:
			select {
			case c.answers <- m:
			default: // nobody asked: a confused or hostile VMM
				return
			}
		}
	}
}

// readMessage reads one line and decodes it. Lines longer than maxLine and
// lines that are not a JSON object are errors.
func readMessage(r *bufio.Reader) (message, error) {
	var m message
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return m, fmt.Errorf("message longer than %d bytes", maxLine)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return m, err
		}
	}
	return m, json.Unmarshal(line, &m)
}

// Do sends a command and returns its answer. A refusal is an *Error. If ctx
// ends first the connection is closed, because its answers are out of step.
func (c *Conn) Do(ctx context.Context, command string, args any) (json.RawMessage, error) {
	return c.DoFile(ctx, command, args, nil)
}

// DoFile is Do with an open file passed along (SCM_RIGHTS), for getfd.
func (c *Conn) DoFile(ctx context.Context, command string, args any, file *os.File) (json.RawMessage, error) {
	select {
	case <-c.sending:
		defer func() { c.sending <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
		return nil, ErrClosed
	}
	id, err := c.send(command, args, file)
	if err != nil {
		return nil, err
	}
	select {
	case m := <-c.answers:
		if m.Error != nil {
			return nil, m.Error
		}
		if m.ID == nil || *m.ID != id {
			c.sock.Close()
			return nil, fmt.Errorf("%s: answer to another command", command)
		}
		return m.Return, nil
	case <-ctx.Done():
		c.sock.Close()
		return nil, fmt.Errorf("%s: %w", command, context.Cause(ctx))
	case <-c.done:
		return nil, fmt.Errorf("%s: %w", command, ErrClosed)
	}
}

func (c *Conn) send(command string, args any, file *os.File) (uint64, error) {
	c.mu.Lock()
	c.next++
	id := c.next
	c.mu.Unlock()
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return 0, fmt.Errorf("encode %s: %w", command, err)
	}
	b = append(b, '\n')
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	n, _, err := c.sock.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, fmt.Errorf("send %s: %w", command, errors.Join(err, ErrClosed))
	}
	return id, nil
}
