package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/client"
	"bulkhead/internal/cli"

	"github.com/spf13/cobra"
)

// poison is what a guest, or somebody else's daemon, would like a terminal to do.
const poison = "p\x1b]0;title\x07\x1b[2J\u009b31m\u202e\u2066\r\b\x7f\U000e0001\n    ProxyCommand evil"

// poisoned fills a value with poison wherever there is room for text.
func poisoned[T any]() (v T) {
	fill(reflect.ValueOf(&v).Elem())
	return v
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(poison)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(elem)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, elem)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(born()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// answers has what a hostile daemon says, by the last part of the path.
func answers() map[string]any {
	build := poisoned[client.BuildEvent]()
	build.Error, build.Template = nil, nil
	log := build
	log.Done, log.Step, log.Number = false, "", 0
	done := client.BuildEvent{Template: build.Template}
	tpl := poisoned[client.Template]()
	done.Template = &tpl
	past := poisoned[client.Timeline]()
	past.Snapshots[0].Parent = ""
	info := poisoned[client.SSHInfo]()
	info.Address = "host\n    ProxyCommand evil:22"
	return map[string]any{
		"sandboxes": []any{poisoned[client.Sandbox]()}, "import": poisoned[client.Sandbox](), "": poisoned[client.Sandbox](),
		"snapshots": poisoned[client.Snapshot](), "timeline": past, "diff": poisoned[client.FileChange](),
		"rollback": poisoned[client.RollbackResult](), "fork": []any{client.ForkResult{Sandbox: new(poisoned[client.Sandbox]())}},
		"version": poisoned[client.Info](), "events": poisoned[client.Event](), "verified": poisoned[client.EventsReport](),
		"egress": poisoned[client.Egress](), "rules": poisoned[client.Egress](), "test": poisoned[client.EgressVerdict](),
		"learn": poisoned[client.EgressLearned](), "replay": []any{poisoned[client.EgressChange]()},
		"pending": []any{poisoned[client.EgressQuestion]()}, "blast-radius": poisoned[client.BlastRadius](),
		"secrets": []any{poisoned[client.Secret]()}, "ssh": info,
		"POST v2/sandboxes": poisoned[client.Sandbox](), "POST keys": poisoned[client.NewKey](), "keys": []any{poisoned[client.Key]()}, "POST ssh/keys": poisoned[client.SSHKey](),
		"templates": []any{poisoned[client.Template]()}, "POST templates": []any{build, log, done},
	}
}

// say answers a request with what there is for it.
func say(all map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, last, _ := strings.Cut(r.URL.Path[1:], "/")
		if i := strings.LastIndexByte(last, '/'); i >= 0 || !strings.HasPrefix(r.URL.Path, "/sandboxes/") || last == "import" {
			last = r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		} else {
			last = "" // the sandbox itself
		}
		v, ok := all[r.Method+" "+r.URL.Path[1:]]
		if !ok {
			v = all[last]
		}
		out := json.NewEncoder(w)
		if lines, many := v.([]any); many && r.Method+last == "POSTtemplates" {
			for _, line := range lines {
				_ = out.Encode(line)
			}
			return
		}
		if r.Method == http.MethodDelete || v == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = out.Encode(v) // the client may be gone
	}
}

// commands has arguments for every command but those that stream what the user
// asked for, and those that are no client.
func commands(dir string) map[string][]string {
	file := filepath.Join(dir, "file")
	return map[string][]string{
		"blast-radius": {"x"}, "cp": {"x:/a", dir}, "create": {"x"}, "diff": {"x", "y"}, "doctor": {"--jail", "x"},
		"egress allow": {"x", "a.example"}, "egress approve": {"x", "a.example:443"}, "egress deny": {"x", "a.example"},
		"egress learn": {"x", "propose"}, "egress log": {"x"}, "egress pending": {}, "egress reject": {"x", "a.example:443"},
		"egress replay": {"x", "none"}, "egress set": {"x", "none"}, "egress show": {"x"}, "egress test": {"x", "a.example:443"},
		"events": {}, "events verify": {}, "export": {"x", filepath.Join(dir, "parcel")}, "fork": {"x"}, "forward": {"x", "none"},
		"import": {file}, "inspect": {"x"}, "key create": {"x"}, "key ls": {}, "key revoke": {"x"}, "ls": {}, "pause": {"x"},
		"restart": {"x"}, "resume": {"x"}, "rm": {"-f", "x"}, "rollback": {"x", "y"}, "run": {"x", "--", "true"}, "schedule": {"x"},
		"secret ls": {}, "secret rm": {"x"}, "secret set": {"x"}, "snapshot": {"x"}, "ssh-config": {"--dir", filepath.Join(dir, "ssh")},
		"ssh-key add": {file}, "ssh-key ls": {}, "ssh-key rm": {"x"}, "start": {"x"}, "template build": {"x"}, "template ls": {},
		"template rm": {"x"}, "timeline": {"x"}, "timeline rm": {"x", "y"}, "version": {},
		"__complete": {"inspect", ""},
	}
}

// streams are the commands that pass on what a guest prints, because that is what
// the user asked for, and those that ask no daemon.
var streams = []string{"exec", "shell", "logs", "port", "mcp", "serve", "debug release"}

// TestNothingSteersTheTerminal has a daemon that lies say to every command what
// would do something to a terminal.
func TestNothingSteersTheTerminal(t *testing.T) {
	world := answers()
	for name, daemon := range map[string]http.HandlerFunc{
		"answers": say(world),
		"errors": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(poisoned[client.Error]())
		},
		"what is no answer": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 500 \x1b[2J\u009b31m\r\nContent-Length: 5\r\n\r\n{\x1b[2J")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, socket := t.TempDir(), daemonOf(t, daemon)
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			all := commands(dir)
			for _, command := range leaves(cli.New(env()), "") {
				args, ok := all[command]
				if !ok && !slices.Contains(streams, command) {
					t.Errorf("bulkhead %s is not tried", command)
				}
				if !ok {
					continue
				}
				for _, form := range []string{"text", "json"} {
					out := told(t, socket, append(append(strings.Fields(command), "-o", form), args...))
					for i, r := range out {
						if r == utf8.RuneError || r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
							t.Errorf("bulkhead %s -o %s prints %q:\n%q", command, form, r, out[max(0, i-60):min(len(out), i+20)])
							break
						}
					}
				}
			}
			if b, err := os.ReadFile(filepath.Join(dir, "ssh", "bulkhead", "config")); err == nil && bytes.Contains(b, []byte("evil")) {
				t.Errorf("ssh-config wrote what runs a command:\n%s", b)
			}
		})
	}
}

// leaves lists the commands that do something.
func leaves(c *cobra.Command, path string) (all []string) {
	for _, sub := range c.Commands() {
		name := strings.TrimSpace(path + " " + sub.Name())
		if sub.Name() == "completion" || sub.Name() == "help" {
			continue // cobra's
		}
		if sub.RunE != nil && (!sub.HasSubCommands() || sub.Use != sub.Name()) || sub.Name() == "events" {
			all = append(all, name)
		}
		all = append(all, leaves(sub, name)...)
	}
	if path == "" {
		all = append(all, "__complete")
	}
	return all
}

// told is what a command prints, on both of its streams.
func told(t *testing.T, socket string, args []string) string {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	e := env()
	e.Stdin, e.Stdout, e.Stderr = in, &out, &out
	e.Getenv = func(key string) string { return map[string]string{"BULKHEAD_SOCKET": socket}[key] }
	root := cli.New(e)
	if args[0] == "__complete" {
		args = slices.DeleteFunc(args, func(s string) bool { return s == "-o" || s == "text" || s == "json" })
	}
	root.SetArgs(args)
	cli.Report(e, args, root.ExecuteContext(t.Context()))
	if out.Len() == 0 {
		fmt.Fprintln(&out)
	}
	return out.String()
}

// daemonOf answers on a socket until the test ends.
func daemonOf(t *testing.T, h http.HandlerFunc) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
