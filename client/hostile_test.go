package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"
	"bulkhead/test/leak"

	"connectrpc.com/connect"
)

// liar is an agent that somebody else has taken over.
type liar struct {
	processconnect.UnimplementedProcessHandler
	say func(send func(*process.ProcessEvent)) error
}

func (l liar) Start(_ context.Context, _ *connect.Request[process.StartRequest], s *connect.ServerStream[process.StartResponse]) error {
	return l.say(func(e *process.ProcessEvent) { _ = s.Send(&process.StartResponse{Event: e}) })
}

func start(pid uint32) *process.ProcessEvent {
	return &process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: pid}}}
}

func end(exited bool, code int32, status string) *process.ProcessEvent {
	return &process.ProcessEvent{Event: &process.ProcessEvent_End{
		End: &process.ProcessEvent_EndEvent{Exited: exited, ExitCode: code, Status: status},
	}}
}

func stdout(text string) *process.ProcessEvent {
	return &process.ProcessEvent{Event: &process.ProcessEvent_Data{Data: &process.ProcessEvent_DataEvent{
		Output: &process.ProcessEvent_DataEvent_Stdout{Stdout: []byte(text)},
	}}}
}

// Whatever the agent says, the caller gets an exit code between 0 and 255 or
// an error, and 0 only if the agent said so.
func TestLyingAgents(t *testing.T) {
	leak.Check(t)
	for _, tt := range []struct {
		name string
		say  func(send func(*process.ProcessEvent)) error
		code int
		out  string
		err  error
	}{
		{"an exit code that wraps to 0", func(send func(*process.ProcessEvent)) error {
			send(start(1))
			send(end(true, 256, ""))
			return nil
		}, 255, "", nil},
		{"a negative exit code", func(send func(*process.ProcessEvent)) error {
			send(end(true, -1, ""))
			return nil
		}, 255, "", nil},
		{"an end of an unknown kind", func(send func(*process.ProcessEvent)) error {
			send(end(false, 0, "signal: of the times"))
			return nil
		}, 255, "", nil},
		{"starts and ends twice", func(send func(*process.ProcessEvent)) error {
			send(start(1))
			send(start(2))
			send(end(true, 1, ""))
			send(stdout("late"))
			send(end(true, 0, ""))
			return nil
		}, 1, "late", nil},
		{"output without a start", func(send func(*process.ProcessEvent)) error {
			send(stdout("hi"))
			send(end(true, 4, ""))
			return nil
		}, 4, "hi", nil},
		{"events without content", func(send func(*process.ProcessEvent)) error {
			send(nil)
			send(&process.ProcessEvent{})
			send(&process.ProcessEvent{Event: &process.ProcessEvent_Data{}})
			send(&process.ProcessEvent{Event: &process.ProcessEvent_End{}})
			return nil
		}, 255, "", nil},
		{"no end", func(send func(*process.ProcessEvent)) error {
			send(start(1))
			return nil
		}, 0, "", client.ErrCutOff},
		{"a message larger than any", func(send func(*process.ProcessEvent)) error {
			send(stdout(strings.Repeat("x", 2<<20)))
			return nil
		}, 0, "", client.ErrCutOff},
		{"an answer that breaks off", func(send func(*process.ProcessEvent)) error {
			send(start(1))
			panic(http.ErrAbortHandler)
		}, 0, "", client.ErrCutOff},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.Handle(processconnect.NewProcessHandler(liar{say: tt.say}))
			c := serve(t, inGuest(t, mux))
			var out bytes.Buffer
			code, err := c.Exec(t.Context(), client.Exec{Sandbox: "otter", Cmd: "x", Stdout: &out})
			if code != tt.code || !errors.Is(err, tt.err) {
				t.Errorf("code %d, error %v, want %d, %v", code, err, tt.code, tt.err)
			}
			if out.String() != tt.out {
				t.Errorf("output %q, want %q", out.String(), tt.out)
			}
		})
	}
}

// A guest that answers in the daemon's form must not be taken for the daemon:
// a hint is something that an operator may follow.
func TestGuestCannotSpeakForTheDaemon(t *testing.T) {
	leak.Check(t)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"an error in the daemon's form", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "1234")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, `{"code":502,"message":"gone","error_code":"wrong_state","hint":"EVIL","requestID":"1234"}`)
		}},
		{"an error without a request", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"code":"permission_denied","message":"no","hint":"EVIL"}`)
		}},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/sandboxes" {
				t.Error("redirect was followed")
			}
			http.Redirect(w, r, "http://bulkhead/v2/sandboxes", http.StatusTemporaryRedirect)
		}},
		{"a text of any length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"code":"permission_denied","message":"%s"}`, strings.Repeat("x", 1<<20))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, inGuest(t, tt.answer))
			_, err := c.Exec(t.Context(), client.Exec{Sandbox: "otter", Cmd: "x"})
			var e *client.Error
			if !errors.As(err, &e) {
				t.Fatalf("%#v", err)
			}
			if strings.Contains(e.Hint, "EVIL") || len(err.Error()) > 2<<10 {
				t.Errorf("%d bytes, hint %q: %.200s", len(err.Error()), e.Hint, err)
			}
		})
	}
}
