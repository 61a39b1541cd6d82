// Package guest is the host's end of the guest channel: a session with the
// agent of one machine, and the calls that bracket snapshots and restores.
//
// The guest is hostile. Every answer is bounded in size, every call in time by
// its context, and what the guest says is checked before it counts; nothing
// from it becomes a path or a command.
//
// guest knows neither VMMs nor sandboxes: it is given a connection. A Client
// is safe for concurrent use.
package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/internal/fault"
	"bulkhead/internal/link"
	"bulkhead/proto/machine"
	"bulkhead/proto/machine/machineconnect"

	"connectrpc.com/connect"
)

const (
	// maxAnswer bounds an answer of the machine service; real ones have less
	// than 200 bytes.
	maxAnswer = 64 << 10
	// maxHeader bounds the header of any answer of the agent.
	maxHeader = 64 << 10
	// maxSkew is how far a guest's clock may be off when it counts as right.
	maxSkew = 100 * time.Millisecond
	// entropySize is what the guest's generator is fed, in bytes: twice the
	// size of its key.
	entropySize = 64
)

// ErrNotRight is returned by Resume for a guest that answered, but not with
// what makes a machine right.
var ErrNotRight = errors.New("guest did not become right")

// Client is a session with the agent of one machine.
type Client struct {
	session   *link.Session
	transport *http.Transport
	machine   machineconnect.MachineClient
	clock     func() time.Time
}

// Connect begins a session over conn, which the client owns from then on. It
// waits for the agent until ctx ends. clock is the host's time. The error is a
// fault.Unsupported for an agent of another release.
func Connect(ctx context.Context, conn net.Conn, clock func() time.Time) (*Client, error) {
	s, err := link.Dial(ctx, conn)
	if errors.Is(err, link.ErrVersion) {
		return nil, fault.New(fault.Unsupported, "%w", err).Hint("roll back to a snapshot, or create from a template, that this release made")
	}
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Open(ctx) },
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           8,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true,
	}
	return &Client{
		session: s, transport: t, clock: clock,
		machine: machineService(t),
	}, nil
}

// machineService is the agent's machine service, its answers bounded.
func machineService(t http.RoundTripper) machineconnect.MachineClient {
	return machineconnect.NewMachineClient(&http.Client{Transport: bounded{t, maxAnswer}}, "http://guest",
		connect.WithReadMaxBytes(maxAnswer))
}

// Transport carries HTTP to the agent, whatever host the request names. It
// ends with the client.
func (c *Client) Transport() http.RoundTripper { return c.transport }

// Session ends with the session. Its cause is why: context.Canceled if Close
// ended it.
func (c *Client) Session() context.Context { return c.session.Context() }

// Close ends the session and does not wait for the guest. Repeating it is no
// error.
func (c *Client) Close() error {
	c.session.Close() // ending it is all that can be done with it
	c.transport.CloseIdleConnections()
	return nil
}

// Status says whether the machine has booted and is frozen.
func (c *Client) Status(ctx context.Context) (*machine.StatusResponse, error) {
	r, err := c.machine.Status(ctx, connect.NewRequest(&machine.StatusRequest{}))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return r.Msg, nil
}

// Sync writes dirty file data of the guest to its disk.
func (c *Client) Sync(ctx context.Context) error {
	if _, err := c.machine.Sync(ctx, connect.NewRequest(&machine.SyncRequest{})); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// Freeze stops every process of the guest but the agent.
func (c *Client) Freeze(ctx context.Context) error {
	if _, err := c.machine.Freeze(ctx, connect.NewRequest(&machine.FreezeRequest{})); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

// Entrust gives a running guest what it needs to use secrets, by the transport
// of its session.
func Entrust(ctx context.Context, transport http.RoundTripper, t *machine.Trust) error {
	if _, err := machineService(transport).Resume(ctx, connect.NewRequest(&machine.ResumeRequest{Trust: t})); err != nil {
		return fmt.Errorf("entrust: %w", err)
	}
	return nil
}

// Pulse asks an agent what keeps its machine from work, by the transport of its
// session: one line, "" for nothing. An agent that cannot tell knows nothing.
func Pulse(ctx context.Context, transport http.RoundTripper) (ailment string, err error) {
	r, err := machineService(transport).Pulse(ctx, connect.NewRequest(&machine.PulseRequest{}))
	if connect.CodeOf(err) == connect.CodeUnimplemented && err != nil {
		return "", nil // a snapshot of an earlier release
	}
	if err != nil {
		return "", fmt.Errorf("pulse: %w", err)
	}
	return printable(r.Msg.GetAilment()), nil
}

// Stats asks a guest what it uses of its machine, by the transport of its
// session. Nothing that it says is certain.
func Stats(ctx context.Context, transport http.RoundTripper) (*machine.StatsResponse, error) {
	r, err := machineService(transport).Stats(ctx, connect.NewRequest(&machine.StatsRequest{}))
	if err != nil {
		return nil, fmt.Errorf("ask for counters: %w", err)
	}
	return r.Msg, nil
}

// maxWalked bounds how many files a guest can say that it has, maxBatch the
// bytes of one message about them.
const (
	maxWalked = 10_000_000
	maxBatch  = 1 << 20
)

// Walk lists the files of a guest's disk in the order of a walk, by the
// transport of its session. Nothing that it says is certain.
func Walk(ctx context.Context, transport http.RoundTripper) iter.Seq2[*machine.Entry, error] {
	return func(yield func(*machine.Entry, error) bool) {
		service := machineconnect.NewMachineClient(&http.Client{Transport: transport}, "http://guest", connect.WithReadMaxBytes(maxBatch))
		stream, err := service.Walk(ctx, connect.NewRequest(&machine.WalkRequest{Root: "/"}))
		if err != nil {
			yield(nil, fmt.Errorf("walk: %w", err))
			return
		}
		defer stream.Close()
		for n := 0; stream.Receive(); {
			for _, e := range stream.Msg().GetEntries() {
				if n++; n > maxWalked {
					yield(nil, fault.New(fault.Exhausted, "the guest says that it has more than %d files", maxWalked))
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
		if err := stream.Err(); err != nil {
			yield(nil, fmt.Errorf("walk: %w", err))
		}
	}
}

// maxLine bounds a line that a guest says, in bytes.
const maxLine = 200

// printable makes what a guest says a line of text.
func printable(s string) string {
	s = s[:min(len(s), maxLine)]
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return -1
	}, s)
}

// resumeTries is how often a clock that may be off is set again: the first
// call of a restored guest is slow under a translator, later ones are not.
const resumeTries = 3

// Resume makes the machine right and thaws it: the clock is set to the
// host's, randomness reseeded, identity and trust taken on unless nil. What takes
// long is done while the guest is frozen; it thaws with a call that only sets
// the clock. The clock is set again while it may be off by more than 100 ms;
// ErrNotRight if it certainly is after that, or if the guest does not say
// that it has thawed.
func (c *Client) Resume(ctx context.Context, identity *machine.Identity, trust *machine.Trust) error {
	entropy := make([]byte, entropySize)
	rand.Read(entropy) // never fails: crypto/rand ends the program instead
	_, _, err := c.setRight(ctx, &machine.ResumeRequest{Entropy: entropy, Identity: identity, Trust: trust})
	var least, most time.Duration
	for try := 0; err == nil && try < resumeTries; try++ {
		if least, most, err = c.setRight(ctx, &machine.ResumeRequest{Thaw: true}); most <= maxSkew {
			break
		}
	}
	if err == nil && least > maxSkew {
		err = fmt.Errorf("%w: its clock is off by %s", ErrNotRight, least.Round(time.Millisecond))
	}
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// setRight sends r with the host's time. It returns how far the guest's clock
// is off at least and at most: the answer was given at some time within the
// call.
func (c *Client) setRight(ctx context.Context, r *machine.ResumeRequest) (least, most time.Duration, err error) {
	sent := c.clock()
	r.UnixNanos = sent.UnixNano()
	got, err := c.machine.Resume(ctx, connect.NewRequest(r))
	if err != nil {
		return 0, 0, err
	}
	received := c.clock()
	if r.Thaw && !got.Msg.GetThawed() {
		return 0, 0, fmt.Errorf("%w: it is still frozen", ErrNotRight)
	}
	says := time.Unix(0, got.Msg.GetUnixNanos())
	early, late := says.Sub(sent), received.Sub(says) // negative: out of the call
	switch {
	case early < 0:
		return saturated(early), late, nil
	case late < 0:
		return saturated(late), early, nil
	}
	return 0, max(early, late), nil
}

// saturated negates d; the least of all durations has no opposite.
func saturated(d time.Duration) time.Duration { return -max(d, -math.MaxInt64) }
