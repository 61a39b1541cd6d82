package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server"
	"bulkhead/test/leak"

	"github.com/google/go-cmp/cmp"
)

func notFound(ref string) error {
	return fault.New(fault.NotFound, "sandbox %q not found", ref).Hint("bulkhead ls")
}

// Every call asks the real server for what it says, and returns the answer.
func TestCallsReachTheirRoutes(t *testing.T) {
	leak.Check(t)
	otter := client.Sandbox{ID: "i1", Name: "otter", State: client.StateRunning, CreatedAt: time.Unix(1e9, 0).UTC()}
	monday := client.Snapshot{ID: "s1", Name: "monday", SandboxID: "i1", Cause: "manual", StoppedMS: 24.5, Names: []string{}}
	base := client.Template{
		ID: "t1", Name: "base", CPUs: 2, BuildStatus: "ready", BuildCount: 1, Public: true, Names: []string{"base"}, Aliases: []string{"base"},
	}
	var asked string
	ask := func(format string, args ...any) {
		asked = strings.TrimPrefix(asked+"; ", "; ") + fmt.Sprintf(format, args...)
	}
	box := func(verb string) func(string) (client.Sandbox, error) {
		return func(ref string) (client.Sandbox, error) { ask("%s %s", verb, ref); return otter, nil }
	}
	c := serve(t, server.Options{
		Sandboxes: sandboxes{
			list: func() ([]client.Sandbox, error) { ask("list"); return []client.Sandbox{otter}, nil },
			create: func(_ context.Context, r client.CreateRequest) (client.Sandbox, error) {
				ask("create %s %s %v %v", r.TemplateID, r.Name, r.EnvVars, r.Metadata)
				return otter, nil
			},
			get:    box("get"),
			remove: func(ref string) error { ask("remove %s", ref); return nil },
		},
		Power: power{ask: ask, box: otter},
		Snapshots: snapshots{
			take: func(ref string, r client.SnapshotRequest) (client.Snapshot, error) {
				ask("take %s %s", ref, r.Name)
				return monday, nil
			},
			remove: func(ref, snap string) error { ask("forget %s %s", ref, snap); return nil },
			timeline: func(ref string) (client.Timeline, error) {
				ask("timeline %s", ref)
				return client.Timeline{SandboxID: "i1", Head: "s1", Snapshots: []client.Snapshot{monday}}, nil
			},
			rollback: func(ref string, r client.RollbackRequest) (client.RollbackResult, error) {
				ask("rollback %s %s", ref, r.Snapshot)
				return client.RollbackResult{Sandbox: otter, Snapshot: monday, DurationMS: 53}, nil
			},
		},
		Templates: templates{
			list:   func() ([]client.Template, error) { ask("templates"); return []client.Template{base}, nil },
			remove: func(name string) error { ask("drop %s", name); return nil },
			plan: func(name string, r client.Schedule) (client.Template, error) {
				ask("plan %s %d", name, r.EverySeconds)
				return base, nil
			},
		},
		Info: func(context.Context) (client.Info, error) { ask("info"); return client.Info{Accel: "tcg", PID: 7}, nil },
	})

	ctx := t.Context()
	for _, tt := range []struct {
		asks string
		call func() (any, error)
		want any
	}{
		{"info", func() (any, error) { return c.Info(ctx) }, client.Info{Accel: "tcg", PID: 7}},
		{"list", func() (any, error) { return c.Sandboxes(ctx) }, []client.Sandbox{otter}},
		{"create base otter map[K:V] map[l:1]", func() (any, error) {
			return c.Create(ctx, client.CreateRequest{
				TemplateID: "base", Name: "otter",
				EnvVars: map[string]string{"K": "V"}, Metadata: map[string]string{"l": "1"},
			})
		}, otter},
		{"get otter", func() (any, error) { return c.Sandbox(ctx, "otter") }, otter},
		{"start otter", func() (any, error) { return c.Start(ctx, "otter") }, otter},
		{"restart otter", func() (any, error) { return c.Restart(ctx, "otter") }, otter},
		{"pause otter true; get otter", func() (any, error) { return c.Pause(ctx, "otter", client.PauseRequest{Stay: true}) }, otter},
		{"resume otter", func() (any, error) { return c.Resume(ctx, "otter") }, otter},
		{"schedule otter 900 60", func() (any, error) {
			return c.SetSchedule(ctx, "otter", client.Schedule{EverySeconds: 900, IdleSeconds: 60})
		}, otter},
		{"fork otter monday 2 twin", func() (any, error) {
			return c.Fork(ctx, "otter", client.ForkRequest{Snapshot: "monday", Count: 2, Name: "twin"})
		}, []client.Sandbox{otter}},
		{"remove otter", func() (any, error) { return nil, c.Remove(ctx, "otter") }, nil},
		{"take otter monday", func() (any, error) { return c.Snapshot(ctx, "otter", client.SnapshotRequest{Name: "monday"}) }, monday},
		{"forget otter monday", func() (any, error) { return nil, c.RemoveSnapshot(ctx, "otter", "monday") }, nil},
		{"timeline otter", func() (any, error) { return c.Timeline(ctx, "otter") },
			client.Timeline{SandboxID: "i1", Head: "s1", Snapshots: []client.Snapshot{monday}}},
		{"rollback otter monday", func() (any, error) {
			return c.Rollback(ctx, "otter", client.RollbackRequest{Snapshot: "monday"})
		}, client.RollbackResult{Sandbox: otter, Snapshot: monday, DurationMS: 53}},
		{"templates", func() (any, error) { return c.Templates(ctx) }, []client.Template{base}},
		{"plan base 900", func() (any, error) {
			return c.SetTemplateSchedule(ctx, "base", client.Schedule{EverySeconds: 900})
		}, base},
		{"drop base", func() (any, error) { return nil, c.RemoveTemplate(ctx, "base") }, nil},
		{"", func() (any, error) { return nil, c.Health(ctx) }, nil},
	} {
		t.Run(tt.asks, func(t *testing.T) {
			asked = ""
			got, err := tt.call()
			if err != nil {
				t.Fatal(err)
			}
			if asked != tt.asks {
				t.Errorf("server was asked for %q", asked)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// No reference, however odd, reaches another route than its own.
func TestOddReferencesStayReferences(t *testing.T) {
	leak.Check(t)
	none := func(string) error { return fault.New(fault.Invalid, "not a template") }
	c := serve(t, server.Options{Templates: templates{remove: none}})
	for _, ref := range []string{"", ".", "..", "../templates", "a/b", "a?b=c", "a#b", "%2e%2e", "a b", "\x1b", "é"} {
		t.Run(ref, func(t *testing.T) {
			_, err := c.Sandbox(t.Context(), ref)
			var e *client.Error
			if !errors.As(err, &e) || e.Kind != "invalid" || !strings.Contains(e.Message, "not the id or name") {
				t.Errorf("sandbox %q: %v", ref, err)
			}
			if err := c.RemoveTemplate(t.Context(), ref); !errors.As(err, &e) || e.Kind != "invalid" {
				t.Errorf("template %q: %v", ref, err)
			}
		})
	}
}

func TestErrorsCarryKindHintAndRequest(t *testing.T) {
	leak.Check(t)
	c := serve(t, server.Options{Sandboxes: sandboxes{
		get: func(ref string) (client.Sandbox, error) { return client.Sandbox{}, notFound(ref) },
	}})
	_, err := c.Sandbox(t.Context(), "nobody")
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is of type %T", err, err)
	}
	if e.RequestID == "" {
		t.Error("no request id")
	}
	e.RequestID = ""
	want := &client.Error{Code: 404, Kind: "not_found", Message: `sandbox "nobody" not found`, Hint: "bulkhead ls"}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestAbsentDaemonIsSaidPlainly(t *testing.T) {
	stale := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for name, socket := range map[string]string{
		"no socket": filepath.Join(t.TempDir(), "none"), "socket of a dead daemon": stale,
	} {
		t.Run(name, func(t *testing.T) {
			c := client.New(socket)
			_, infoErr := c.Info(t.Context())
			_, execErr := c.Exec(t.Context(), client.Exec{Sandbox: "otter", Cmd: "true"})
			for _, err := range []error{infoErr, execErr} {
				var e *client.Error
				if !errors.As(err, &e) || e.Kind != "unavailable" || e.Hint != "start it: bulkhead serve" {
					t.Fatalf("%#v", err)
				}
				if got, want := e.Message, "no daemon listens on "+socket; got != want {
					t.Errorf("message %q, want %q", got, want)
				}
			}
		})
	}
}

func TestForbiddenSocketIsSaidPlainly(t *testing.T) {
	err := client.Lost(client.New("/s"), t.Context(), &os.PathError{Op: "connect", Path: "/s", Err: os.ErrPermission})
	var e *client.Error
	if !errors.As(err, &e) || e.Kind != "denied" || e.Message != "no permission to use /s" || e.Hint == "" {
		t.Errorf("%#v", err)
	}
}

func TestOddAnswersAreErrors(t *testing.T) {
	leak.Check(t)
	for _, tt := range []struct {
		name, want string
		answer     http.HandlerFunc
	}{
		{"a page", "daemon answers 502 bad gateway", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(502)
			fmt.Fprint(w, "<html>")
		}},
		{"JSON of somebody else", "daemon answers 418 i'm a teapot", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(418)
			fmt.Fprint(w, `{"error": {"nested": true}}`)
		}},
		{"a redirect", "daemon answers 307 temporary redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
		{"no JSON", "does not answer: invalid character", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }},
		{"half an answer", "does not answer: unexpected EOF", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"version"`)
		}},
		{"nothing", "does not answer: EOF", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := listen(t, tt.answer).Info(t.Context())
			var e *client.Error
			if !errors.As(err, &e) || !strings.Contains(e.Message, tt.want) {
				t.Errorf("%#v, want %q", err, tt.want)
			}
		})
	}
}

// The first connection is made to die in the middle of its second request.
func TestOnlyReadsAreRepeated(t *testing.T) {
	leak.Check(t)
	for _, tt := range []struct {
		name  string
		call  func(*client.Client, context.Context) error
		wants int64
	}{
		{"a read is", func(c *client.Client, ctx context.Context) error { _, err := c.Info(ctx); return err }, 3},
		{"a create is not", func(c *client.Client, ctx context.Context) error {
			_, err := c.Create(ctx, client.CreateRequest{TemplateID: "base"})
			return err
		}, 2},
		{"a removal is not", func(c *client.Client, ctx context.Context) error { return c.Remove(ctx, "otter") }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int64
			c := listen(t, func(w http.ResponseWriter, _ *http.Request) {
				switch requests.Add(1) {
				case 1:
					w.WriteHeader(204)
				case 2:
					panic(http.ErrAbortHandler)
				default:
					fmt.Fprint(w, "{}")
				}
			})
			if err := c.Health(t.Context()); err != nil {
				t.Fatal(err)
			}
			err := tt.call(c, t.Context())
			if got := requests.Load(); got != tt.wants {
				t.Errorf("%d requests, want %d", got, tt.wants)
			}
			if (err == nil) != (tt.wants == 3) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	leak.Check(t)
	asked := make(chan struct{})
	c := serve(t, server.Options{Sandboxes: sandboxes{
		create: func(ctx context.Context, _ client.CreateRequest) (client.Sandbox, error) {
			close(asked)
			<-ctx.Done() // that the daemon notices is the other half of the test
			return client.Sandbox{}, ctx.Err()
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.Create(ctx, client.CreateRequest{TemplateID: "base"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestBuildTellsItsProgress(t *testing.T) {
	leak.Check(t)
	events := []client.BuildEvent{
		{Step: "install packages", Number: 1, Of: 1},
		{Log: "Unpacking jq"},
		{Step: "install packages", Number: 1, Of: 1, Done: true, ElapsedMS: 1200},
	}
	var outcome error
	c := serve(t, server.Options{Templates: templates{
		build: func(_ context.Context, r client.BuildRequest, progress func(client.BuildEvent)) (client.Template, error) {
			for _, e := range events {
				progress(e)
			}
			return client.Template{Name: r.Name}, outcome
		},
	}})
	var got []client.BuildEvent
	tmpl, err := c.BuildTemplate(t.Context(), client.BuildRequest{Name: "dev"}, func(e client.BuildEvent) { got = append(got, e) })
	if err != nil || tmpl.Name != "dev" {
		t.Errorf("built %+v, %v", tmpl, err)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}

	outcome = fault.New(fault.Exhausted, "pool is full").Hint("bulkhead rm")
	_, err = c.BuildTemplate(t.Context(), client.BuildRequest{}, nil)
	var e *client.Error
	if !errors.As(err, &e) || e.Kind != "exhausted" || e.Hint != "bulkhead rm" {
		t.Errorf("error of a build that breaks: %#v", err)
	}
}

func TestBuildThatIsCutOffIsAnError(t *testing.T) {
	leak.Check(t)
	c := listen(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"step":"boot"}`) })
	_, err := c.BuildTemplate(t.Context(), client.BuildRequest{}, nil)
	var e *client.Error
	if !errors.As(err, &e) || e.Kind != "unavailable" {
		t.Errorf("%#v", err)
	}
}

func TestEvents(t *testing.T) {
	leak.Check(t)
	var asked server.EventQuery
	all := []client.Event{{Seq: 8, Type: "create"}, {Seq: 9, Type: "rollback", Fields: map[string]string{"to": "s1"}}}
	c := serve(t, server.Options{
		Events:    eventLog(&asked, all...),
		Sandboxes: sandboxes{resolve: func(string) (string, error) { return "i1", nil }},
	})
	t.Run("come in order until there are no more", func(t *testing.T) {
		var got []client.Event
		err := c.Events(t.Context(), client.EventQuery{Since: 7, Sandbox: "otter"}, func(e client.Event) error {
			got = append(got, e)
			return nil
		})
		if diff := cmp.Diff(all, got); err != nil || diff != "" {
			t.Errorf("%v; events (-want +got):\n%s", err, diff)
		}
		if want := (server.EventQuery{Since: 7, SandboxID: "i1"}); asked != want {
			t.Errorf("asked for %+v, want %+v", asked, want)
		}
	})
	t.Run("end when the reader has enough", func(t *testing.T) {
		enough := errors.New("enough")
		if err := c.Events(t.Context(), client.EventQuery{}, func(client.Event) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("are followed until the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := c.Events(ctx, client.EventQuery{Follow: true}, func(client.Event) error {
			if n++; n == len(all) {
				cancel()
			}
			return nil
		})
		if n != len(all) || !errors.Is(err, context.Canceled) {
			t.Errorf("%d events, error %v", n, err)
		}
	})
}

func TestConsole(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "console.log")
	if err := os.WriteFile(log, []byte("booting \x1b[1m0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	var removed atomic.Bool
	c := serve(t, server.Options{Sandboxes: sandboxes{
		console: func(string) (string, error) { return dir, nil },
		get: func(ref string) (client.Sandbox, error) {
			if removed.Load() {
				return client.Sandbox{}, notFound(ref)
			}
			return client.Sandbox{}, nil
		},
	}})
	t.Run("begins with its tail, as it is", func(t *testing.T) {
		r, err := c.Console(t.Context(), "otter", 14, false)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := readAll(t, r), "\x1b[1m0123456789"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("is followed until the sandbox is gone", func(t *testing.T) {
		r, err := c.Console(t.Context(), "otter", 0, true)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, "more")
		f.Close()
		b := make([]byte, 4)
		if _, err := r.Read(b); err != nil || string(b) != "more" {
			t.Errorf("%q, %v", b, err)
		}
		removed.Store(true)
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r); got != "" {
			t.Errorf("then %q", got)
		}
	})
}
