package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/internal/guestd/fd"
	pb "bulkhead/proto/process"
)

// Rules for outputs that stay open after the process has exited, because a
// descendant holds them: `server &` in a script is the usual case.
const (
	silence  = time.Second      // nobody writes any more
	overtime = 10 * time.Second // somebody writes for ever
)

// Sizes of one piece of output. Clients' buffers are made for these.
const (
	pipeChunk = 32 << 10
	ttyChunk  = 16 << 10
)

// process is one started program. Its goroutines are one reader per output
// and one that waits for the exit; they end by themselves.
type process struct {
	os     *os.Process
	config *pb.ProcessConfig
	tag    *string
	tty    *os.File // nil without a terminal
	stdin  *input   // nil if the program has none
	out    fanout
	ended  chan struct{} // closed once the end is known and told

	mu      sync.Mutex
	exited  bool        // reaped
	expired bool        // killed by its deadline
	at      time.Time   // when it ended; zero before
	timer   *time.Timer // its deadline, or nil
}

// source is one output of a process and how its bytes become an event.
type source struct {
	file  *os.File
	chunk int
	event func([]byte) *pb.ProcessEvent_DataEvent
}

func (p *process) pid() uint32 { return uint32(p.os.Pid) }

func (p *process) is(sel *pb.ProcessSelector) bool {
	switch sel := sel.GetSelector().(type) {
	case *pb.ProcessSelector_Pid:
		return sel.Pid == p.pid()
	case *pb.ProcessSelector_Tag:
		return p.tag != nil && *p.tag == sel.Tag
	}
	return false
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.exited
}

func (p *process) endedAt() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, !p.at.IsZero()
}

// signal returns os.ErrProcessDone if there is nothing left to signal. It goes
// through a pidfd, so it never reaches another process with the same pid.
func (p *process) signal(sig os.Signal) error { return p.os.Signal(sig) }

// killAt kills the process at t unless it has exited by then.
func (p *process) killAt(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(time.Until(t), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.exited {
			p.expired = true
			_ = p.signal(os.Kill) // it is exiting at this moment
		}
	})
}

func (p *process) hasExpired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expired
}

// run carries the outputs and waits for the end. It owns ends and releases it.
func (p *process) run(ends *stdio) {
	defer close(p.ended)
	var readers sync.WaitGroup
	for _, src := range ends.outputs {
		readers.Go(func() { p.carry(src) })
	}
	end := endEvent(p.os.Wait())

	p.mu.Lock()
	p.exited = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, src := range ends.outputs {
		// Wakes the reader: from now on it minds the rules above.
		_ = src.file.SetReadDeadline(time.Unix(1, 0)) // every output is a pipe or a terminal
	}
	readers.Wait()
	ends.close()

	p.mu.Lock()
	p.at = time.Now()
	p.mu.Unlock()
	p.out.finish(end)
}

// carry publishes what comes out of src until its end.
func (p *process) carry(src source) {
	buf := make([]byte, src.chunk)
	for {
		n, err := src.file.Read(buf)
		p.publish(src, buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.drain(src, buf, time.Now().Add(overtime))
			return
		}
		if err != nil { // end of file; EIO from a terminal that nobody holds any more
			return
		}
	}
}

// drain is carry after the exit. What is in the pipe at its start was, for the
// most part, written by the process itself and is carried even after stop.
func (p *process) drain(src source, buf []byte, stop time.Time) {
	owed := buffered(src.file)
	for owed > 0 || time.Now().Before(stop) {
		_ = src.file.SetReadDeadline(time.Now().Add(silence))
		n, err := src.file.Read(buf)
		p.publish(src, buf[:n])
		owed -= n
		if err != nil {
			return
		}
	}
}

func (p *process) publish(src source, data []byte) {
	if len(data) > 0 && p.out.wanted() {
		data = append([]byte(nil), data...)
		p.out.publish(&pb.ProcessEvent{Event: &pb.ProcessEvent_Data{Data: src.event(data)}})
	}
}

// buffered returns how many bytes wait in a pipe or terminal, 0 if unknown.
// TIOCINQ is FIONREAD by its other name.
func buffered(f *os.File) (n int) {
	_ = fd.Use(f, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	return n
}

// endEvent says how a process ended in the words of clients, which are Go's.
func endEvent(state *os.ProcessState, err error) *pb.ProcessEvent_EndEvent {
	if err != nil { // somebody else in the agent has reaped it
		text := "exit status unknown: " + err.Error()
		return &pb.ProcessEvent_EndEvent{ExitCode: -1, Status: text, Error: &text}
	}
	end := &pb.ProcessEvent_EndEvent{
		ExitCode: int32(state.ExitCode()),
		Exited:   state.Exited(),
		Status:   state.String(),
	}
	if !state.Success() {
		end.Error = &end.Status
	}
	return end
}

// lastSignal is the last of the signals that can be sent: the first fifteen
// (signal(7)) are those by which programs are asked for something, and all that
// SSH has names for (RFC 4254, section 6.10).
const lastSignal = syscall.SIGTERM

// signalOf returns the signal to send. The numbers are the kernel's; existing
// SDKs name two of them.
func signalOf(sig pb.Signal) (os.Signal, bool) {
	s := syscall.Signal(sig)
	return s, s > 0 && s <= lastSignal
}
