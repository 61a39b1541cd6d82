package guest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/guest"
	"bulkhead/internal/link"
	"bulkhead/proto/machine"
	"bulkhead/proto/machine/machineconnect"
	"bulkhead/test/leak"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

// agent answers as its fields say, and refuses calls that have none.
type agent struct {
	machineconnect.UnimplementedMachineHandler
	status func() *machine.StatusResponse
	resume func(context.Context, *machine.ResumeRequest) (*machine.ResumeResponse, error)
}

func (a *agent) Status(ctx context.Context, r *connect.Request[machine.StatusRequest]) (*connect.Response[machine.StatusResponse], error) {
	if a.status == nil {
		return a.UnimplementedMachineHandler.Status(ctx, r)
	}
	return connect.NewResponse(a.status()), nil
}

func (a *agent) Resume(ctx context.Context, r *connect.Request[machine.ResumeRequest]) (*connect.Response[machine.ResumeResponse], error) {
	m, err := a.resume(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

// now is what the host's clock shows throughout.
var now = time.Unix(1_800_000_000, 123)

// meet connects to a guest that serves h.
func meet(t *testing.T, h http.Handler) *guest.Client {
	t.Helper()
	leak.Check(t)
	ours, theirs := net.Pipe()
	var served sync.WaitGroup
	served.Go(func() {
		link.Serve(context.Background(), theirs, func(l net.Listener) {
			s := &http.Server{Handler: h}
			s.Serve(l)
			s.Close()
		})
	})
	t.Cleanup(func() {
		theirs.Close()
		served.Wait()
	})
	c, err := guest.Connect(t.Context(), ours, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func meetAgent(t *testing.T, a *agent) *guest.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(machineconnect.NewMachineHandler(a))
	return meet(t, mux)
}

func TestResume(t *testing.T) {
	right := &machine.ResumeResponse{UnixNanos: now.UnixNano(), Thawed: true}
	off := func(d time.Duration) *machine.ResumeResponse {
		return &machine.ResumeResponse{UnixNanos: now.Add(d).UnixNano(), Thawed: true}
	}
	for _, tt := range []struct {
		name    string
		answers []*machine.ResumeResponse
		want    error
	}{
		{"is done with a right answer", []*machine.ResumeResponse{right}, nil},
		{"accepts 100 ms late", []*machine.ResumeResponse{off(-100 * time.Millisecond)}, nil},
		{"accepts 100 ms early", []*machine.ResumeResponse{off(100 * time.Millisecond)}, nil},
		{"sets a late clock once more", []*machine.ResumeResponse{off(-101 * time.Millisecond), right}, nil},
		{"sets an early clock once more", []*machine.ResumeResponse{off(time.Hour), right}, nil},
		{"refuses a clock that stays late", []*machine.ResumeResponse{off(-time.Hour), off(-time.Second), off(-time.Second)}, guest.ErrNotRight},
		{"refuses a clock that stays early", []*machine.ResumeResponse{off(time.Second), off(time.Second), off(time.Second)}, guest.ErrNotRight},
		{"refuses the first of all times", slices.Repeat([]*machine.ResumeResponse{{UnixNanos: -1 << 63, Thawed: true}}, 3), guest.ErrNotRight},
		{"refuses the last of all times", slices.Repeat([]*machine.ResumeResponse{{UnixNanos: 1<<63 - 1, Thawed: true}}, 3), guest.ErrNotRight},
		{"refuses a frozen guest", []*machine.ResumeResponse{{UnixNanos: now.UnixNano()}}, guest.ErrNotRight},
		{"refuses a guest that froze again", []*machine.ResumeResponse{off(time.Hour), {UnixNanos: now.UnixNano()}}, guest.ErrNotRight},
		{"refuses an empty answer", []*machine.ResumeResponse{{}}, guest.ErrNotRight},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []*machine.ResumeRequest
			c := meetAgent(t, &agent{resume: func(_ context.Context, r *machine.ResumeRequest) (*machine.ResumeResponse, error) {
				asked = append(asked, r)
				if len(asked) == 1 { // it is made right before it thaws
					return &machine.ResumeResponse{UnixNanos: now.UnixNano()}, nil
				}
				return tt.answers[min(len(asked)-1, len(tt.answers))-1], nil
			}})
			identity := &machine.Identity{Hostname: "h", MachineId: "m", Env: map[string]string{"A": "B"}}
			if err := c.Resume(t.Context(), identity, nil); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			checkAsked(t, asked, 1+len(tt.answers), identity)
		})
	}
}

// checkAsked wants n requests with the host's time: the first with fresh
// entropy and the identity, the others only to thaw.
func checkAsked(t *testing.T, asked []*machine.ResumeRequest, n int, identity *machine.Identity) {
	t.Helper()
	if len(asked) != n {
		t.Fatalf("asked %d times, want %d", len(asked), n)
	}
	for i, r := range asked {
		want := &machine.ResumeRequest{UnixNanos: now.UnixNano(), Thaw: true}
		if i == 0 {
			want = &machine.ResumeRequest{UnixNanos: now.UnixNano(), Entropy: r.Entropy, Identity: identity}
			if len(r.Entropy) != 64 || bytes.Count(r.Entropy, []byte{0}) == 64 {
				t.Errorf("entropy %x", r.Entropy)
			}
		}
		if diff := cmp.Diff(want, r, protocmp.Transform()); diff != "" {
			t.Errorf("request %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestResumeReportsWhatTheGuestSays(t *testing.T) {
	c := meetAgent(t, &agent{resume: func(context.Context, *machine.ResumeRequest) (*machine.ResumeResponse, error) {
		return nil, connect.NewError(connect.CodeInternal, errors.New("set clock: no such clock"))
	}})
	err := c.Resume(t.Context(), nil, nil)
	if got, want := connect.CodeOf(err), connect.CodeInternal; got != want || !strings.Contains(err.Error(), "no such clock") {
		t.Errorf("error = %v with code %v, want the guest's with %v", err, got, want)
	}
}

// What a guest answers is bounded, whatever it makes it look like.
func TestHugeAnswersAreRefused(t *testing.T) {
	answer := func(status int, header map[string]string, body func(io.Writer)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			body(w)
		}
	}
	endless := func(w io.Writer) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 32<<10))
		}
	}
	bomb := func(w io.Writer) {
		z := gzip.NewWriter(w)
		z.Write(make([]byte, 8<<20))
		z.Close()
	}
	proto := map[string]string{"Content-Type": "application/proto"}
	zipped := map[string]string{"Content-Type": "application/proto", "Content-Encoding": "gzip"}
	problem := map[string]string{"Content-Type": "application/json"}
	for _, tt := range []struct {
		name string
		h    http.Handler
	}{
		{"an endless message", answer(200, proto, endless)},
		{"a message that unpacks to much", answer(200, zipped, bomb)},
		{"an endless problem", answer(500, problem, endless)},
		{"an endless page", answer(404, map[string]string{"Content-Type": "text/html"}, endless)},
		{"a huge header", answer(200, map[string]string{"X": strings.Repeat("x", 128<<10)}, func(io.Writer) {})},
		{"a string that is too long", func() http.Handler {
			_, h := machineconnect.NewMachineHandler(&agent{status: func() *machine.StatusResponse {
				return &machine.StatusResponse{InitState: strings.Repeat("x", 65<<10)}
			}})
			return h
		}()},
		{"a redirection in a circle", http.RedirectHandler("/", http.StatusTemporaryRedirect)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := meet(t, tt.h)
			if r, err := c.Status(t.Context()); err == nil {
				t.Errorf("accepted %.100v", r)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	want := &machine.StatusResponse{AgentVersion: "1.2.3", InitState: "running", Frozen: true, BootId: "b"}
	c := meetAgent(t, &agent{status: func() *machine.StatusResponse { return want }})
	got, err := c.Status(t.Context())
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestHungAgent(t *testing.T) {
	entered := make(chan struct{})
	a := &agent{resume: func(ctx context.Context, _ *machine.ResumeRequest) (*machine.ResumeResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	t.Run("is left when the caller has waited enough", func(t *testing.T) {
		c := meetAgent(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		if err := c.Resume(ctx, nil, nil); !errors.Is(err, context.Canceled) && connect.CodeOf(err) != connect.CodeCanceled {
			t.Errorf("error = %v, want that it was cancelled", err)
		}
	})
	t.Run("is left when the client is closed", func(t *testing.T) {
		c := meetAgent(t, a)
		go func() { <-entered; c.Close() }()
		if err := c.Resume(t.Context(), nil, nil); err == nil {
			t.Error("resumed through a closed client")
		}
	})
}

// deaf is a guest's port that hears nothing any more once a session has begun.
type deaf struct {
	net.Conn
	begun atomic.Bool
	gone  chan struct{}
}

func (d *deaf) Read(b []byte) (int, error) {
	if d.begun.Load() {
		<-d.gone
	}
	return d.Conn.Read(b)
}

// A guest that takes nothing from its port holds nobody, and its session can
// be ended.
func TestDeafGuest(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	port := &deaf{Conn: theirs, gone: make(chan struct{})}
	var served sync.WaitGroup
	served.Go(func() {
		link.Serve(context.Background(), port, func(l net.Listener) {
			port.begun.Store(true)
			for err := error(nil); err == nil; {
				_, err = l.Accept()
			}
		})
	})
	c, err := guest.Connect(t.Context(), ours, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	body := io.MultiReader(&cancelling{cancel}, strings.NewReader(strings.Repeat("x", 1<<20)))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/files", body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Transport().RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that it was cancelled", err)
	}
	if err := c.Sync(ctx); connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("error = %v, want that it was cancelled", err)
	}
	c.Close()
	theirs.Close()
	close(port.gone)
	served.Wait()
}

// cancelling is empty, and cancels when it is read.
type cancelling struct{ cancel func() }

func (c *cancelling) Read([]byte) (int, error) {
	c.cancel()
	return 0, io.EOF
}

// A snapshot keeps the agent of the release that it was taken with.
func TestAgentOfAnotherRelease(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		frame := make([]byte, 64)
		n, _ := theirs.Read(frame)
		go io.Copy(io.Discard, theirs)
		// What a reset looks like never changes: 0, a length, R, the version.
		frame[2], frame[3] = 'A', link.Version+1
		theirs.Write(frame[:n])
	}()
	_, err := guest.Connect(t.Context(), ours, time.Now)
	if !errors.Is(err, link.ErrVersion) || !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
		t.Errorf("error = %v with hint %q", err, fault.HintOf(err))
	}
}

func TestClose(t *testing.T) {
	c := meetAgent(t, &agent{status: func() *machine.StatusResponse { return &machine.StatusResponse{} }})
	select {
	case <-c.Session().Done():
		t.Fatal("done before it was closed")
	default:
	}
	for range 3 {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	<-c.Session().Done()
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a closed client got an answer")
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	leak.Check(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.CopyN(io.Discard, theirs, 1)
		cancel()
	}()
	if c, err := guest.Connect(ctx, ours, time.Now); !errors.Is(err, context.Canceled) {
		t.Errorf("client %v, error %v, want that it was cancelled", c, err)
	}
}
