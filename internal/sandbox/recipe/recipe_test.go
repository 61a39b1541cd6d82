package recipe_test

import (
	"os/exec"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe"

	"github.com/google/go-cmp/cmp"
)

var hash = strings.Repeat("0a", 32)

func step(kind recipe.Kind, args ...string) recipe.Step { return recipe.Step{Kind: kind, Args: args} }

func copying(args ...string) recipe.Step {
	return recipe.Step{Kind: recipe.Copy, Args: args, Files: hash}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		step recipe.Step
		ok   bool
	}{
		{"copy", copying("src", "/dst", "", ""), true},
		{"copy with owner and mode", copying("./a/*.txt", "dst/", "user:group", "0755"), true},
		{"copy within the context", copying("a/../b", "dst"), true},
		{"copy out of the context", copying("a/../../b", "dst"), false},
		{"copy of an absolute path", copying("/etc/passwd", "dst"), false},
		{"copy of nothing", copying("", "dst"), false},
		{"copy to nowhere", copying("src"), false},
		{"copy for an option", copying("src", "dst", "--reference=/etc/shadow"), false},
		{"copy with a mode that is none", copying("src", "dst", "", "u+s"), false},
		{"copy without files", step(recipe.Copy, "src", "dst"), false},
		{"copy of files by a path", recipe.Step{Kind: recipe.Copy, Args: []string{"a", "b"}, Files: "../" + hash[3:]}, false},
		{"copy with a zero byte", copying("s\x00", "dst"), false},
		{"run", step(recipe.Run, "make && make install"), true},
		{"run as a user", step(recipe.Run, "id", "user"), true},
		{"run as an option", step(recipe.Run, "id", "-u"), false},
		{"run of nothing", step(recipe.Run), false},
		{"run of too much", step(recipe.Run, strings.Repeat("x", 300<<10)), false},
		{"env", step(recipe.Env, "A", "1", "B", ""), true},
		{"env without a value", step(recipe.Env, "A"), false},
		{"env without a name", step(recipe.Env, "=", "1"), false},
		{"env of nothing", step(recipe.Env), false},
		{"workdir", step(recipe.Workdir, "/srv"), true},
		{"workdir nowhere", step(recipe.Workdir, ""), false},
		{"user", step(recipe.User, "www-data"), true},
		{"user by number", step(recipe.User, "1000"), false}, // the agent knows names
		{"user that is an option", step(recipe.User, "--help"), false},
		{"user with sudo", step(recipe.User, "a", "true"), false},
		{"another kind", step("VOLUME", "/data"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := recipe.Recipe{Template: "base", Steps: []recipe.Step{tt.step}}.Check()
			if (err == nil) != tt.ok || err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want ok %v", err, tt.ok)
			}
		})
	}
	for _, r := range []recipe.Recipe{
		{},
		{Template: "base", Image: recipe.Image{Ref: "debian"}},
		{Image: recipe.Image{Ref: "de\nbian"}},
		{Template: "base", Start: "x\x00"},
		{Template: "base", Steps: make([]recipe.Step, 501)},
	} {
		if err := r.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+.80v: got %v, want that it is invalid", r, err)
		}
	}
}

func TestSource(t *testing.T) {
	for src, want := range map[string]recipe.Source{
		"app":            {Path: "app"},
		"./app/":         {Path: "app"},
		"a/b.txt":        {Path: "a/b.txt"},
		".":              {Path: ".", Within: true},
		"*.txt":          {Path: ".", Within: true},
		"a/b/*.txt":      {Path: "a/b", Within: true},
		"a/**/c":         {Path: "a", Within: true},
		"a/{b,c}":        {Path: "a", Within: true},
		"a/@(b)/c":       {Path: "a", Within: true},
		"a/copy (1).txt": {Path: "a/copy (1).txt"},
	} {
		if got := copying(src, "dst").Source(); got != want {
			t.Errorf("%s: got %+v, want %+v", src, got, want)
		}
	}
}

func TestOwner(t *testing.T) {
	for owner, want := range map[string]string{"": "cook:", "user": "user:", "user:group": "user:group", "1000": "1000", "1000:50": "1000:50"} {
		if got := copying("a", "b", owner).Owner("cook"); got != want {
			t.Errorf("%q: got %s, want %s", owner, got, want)
		}
	}
}

func TestStretches(t *testing.T) {
	a, b, c := step(recipe.Env, "A", "1"), step(recipe.Run, "true"), copying("a", "b")
	forced := recipe.Step{Kind: recipe.Run, Args: []string{"date"}, Force: true}
	all, tail := recipe.Recipe{Steps: []recipe.Step{a, b, c, a, forced, a}}.Stretches()
	want := []recipe.Stretch{{First: 1, Steps: []recipe.Step{a, b}}, {First: 3, Steps: []recipe.Step{c}}, {First: 4, Steps: []recipe.Step{a, forced}}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("stretches (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(recipe.Stretch{First: 6, Steps: []recipe.Step{a}}, tail); diff != "" {
		t.Errorf("tail (-want +got):\n%s", diff)
	}
	if all[0].Forced() || !all[2].Forced() || all[2].Last() != 5 {
		t.Errorf("forced %v %v, last %d", all[0].Forced(), all[2].Forced(), all[2].Last())
	}
}

// Whatever can make a machine another one is in the key.
func TestKey(t *testing.T) {
	s := recipe.Stretch{Steps: []recipe.Step{copying("a", "b", "", "")}}
	holds := recipe.Defaults{Env: map[string]string{"A": "1"}}
	same := recipe.Key("team", "s1", holds, s)
	later := recipe.Stretch{First: 7, Steps: []recipe.Step{{Kind: recipe.Copy, Args: s.Steps[0].Args, Files: hash, Force: true}}}
	if recipe.Key("team", "s1", holds, later) != same {
		t.Error("where a step stands, or that it is forced, changes its key")
	}
	other := recipe.Stretch{Steps: []recipe.Step{{Kind: recipe.Copy, Args: s.Steps[0].Args, Files: strings.Repeat("0b", 32)}}}
	seen := map[string]string{same: "itself"}
	for what, key := range map[string]string{
		"another team":     recipe.Key("other", "s1", holds, s),
		"another snapshot": recipe.Key("team", "s2", holds, s),
		"another variable": recipe.Key("team", "s1", recipe.Defaults{Env: map[string]string{"A": "2"}}, s),
		"another user":     recipe.Key("team", "s1", recipe.Defaults{Env: holds.Env, User: "u"}, s),
		"another folder":   recipe.Key("team", "s1", recipe.Defaults{Env: holds.Env, Workdir: "u"}, s),
		"other files":      recipe.Key("team", "s1", holds, other),
		"another argument": recipe.Key("team", "s1", holds, recipe.Stretch{Steps: []recipe.Step{copying("a", "b", "u", "")}}),
		"another kind":     recipe.Key("team", "s1", holds, recipe.Stretch{Steps: []recipe.Step{step(recipe.Run, "a")}}),
		"a size":           recipe.SizeKey("team", "s1", 1, 512),
		"another size":     recipe.SizeKey("team", "s1", 15, 12),
	} {
		if twin, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", what, twin)
		}
		seen[key] = what
	}
}

// A shell makes of a word what it stands for, and carries out none of it.
func TestWord(t *testing.T) {
	for _, tt := range []struct{ value, want string }{
		{"$A", "first"},
		{"x${A}y", "xfirsty"},
		{"$A:$B:$NONE", "first:second:"},
		{"$(touch /tmp/x) `id` $A", "$(touch /tmp/x) `id` first"},
		{`"$A"; exit 1 # \`, `"first"; exit 1 # \`},
		{"$A ${B:-x} $1 $$", "first ${B:-x} $1 $$"},
		{"$A\n'!", "first\n'!"},
	} {
		word, refers := recipe.Word(tt.value)
		if !refers {
			t.Errorf("%q refers to nothing", tt.value)
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+word)
		cmd.Env = []string{"A=first", "B=second"}
		if out, err := cmd.Output(); err != nil || string(out) != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.value, out, err, tt.want)
		}
	}
	for _, value := range []string{"", "plain", `5 $ and \`, "$(id)", "$1"} {
		if _, refers := recipe.Word(value); refers {
			t.Errorf("%q refers to something", value)
		}
	}
}

func TestTitleShowsNoValues(t *testing.T) {
	for _, tt := range []struct {
		step recipe.Step
		want string
	}{
		{step(recipe.Env, "TOKEN", "secret", "B", "hidden"), "ENV TOKEN B"},
		{step(recipe.Run, "first\nsecond", "user"), "RUN first ..."},
		{copying("a", "b", "user", "0644"), "COPY a b"},
	} {
		if got := tt.step.Title(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestDefaultsAreBounded(t *testing.T) {
	for _, d := range []recipe.Defaults{{User: "-x"}, {User: "a\nb"}, {Workdir: "/a\x00"}, {Workdir: strings.Repeat("x", 5000)}} {
		if err := d.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60v: %v", d, err)
		}
	}
	if err := (recipe.Defaults{User: "www-data", Workdir: "/srv/a b"}).Check(); err != nil {
		t.Error(err)
	}
	d, err := recipe.Defaults{}.With("A", "1")
	if err != nil {
		t.Fatal(err)
	}
	more, err := d.With("A", "2")
	if err != nil || d.Env["A"] != "1" || more.Env["A"] != "2" {
		t.Errorf("%v and then %v, %v", d, more, err)
	}
	if _, err := d.With("B", strings.Repeat("x", 128<<10)); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want that it is too much", err)
	}
}
