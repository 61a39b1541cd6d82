package binding_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/policy"
)

func load(t *testing.T, path string) *binding.Binding {
	t.Helper()
	b, err := binding.Load(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func trust(t *testing.T, b *binding.Binding, rules string) binding.Trust {
	t.Helper()
	p, err := policy.Parse([]byte("version: 1\nrules: [" + rules + "]\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Trust(p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const (
	one = `{name: api.example, action: allow, secrets: [{name: s, env: A}, {name: k, header: "x: {}"}]}`
	two = `{name: two.example, action: allow, secrets: [{name: s, env: B}, {name: t, env: C}]}`
)

func TestTrust(t *testing.T) {
	path := filepath.Join(t.TempDir(), "binding.json")
	b := load(t, path)
	if got := trust(t, b, "{name: api.example, action: allow}"); got.Root != nil || got.Env != nil {
		t.Errorf("without secrets there is %v", got)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a binding that nobody needs is kept")
	}
	first := trust(t, b, one)
	if len(first.Root) == 0 || first.Link == "" || len(first.Env) != 1 || first.Env["A"] != b.Placeholder("s") {
		t.Errorf("it is %v", first)
	}
	if _, err := b.Certificate("api.example"); err != nil {
		t.Error(err)
	}
	if _, err := b.Certificate("two.example"); err == nil {
		t.Error("there is a certificate for a name without secrets")
	}
	both := trust(t, b, one+", "+two)
	if both.Env["A"] != first.Env["A"] || both.Env["B"] != first.Env["A"] || both.Env["C"] == first.Env["A"] {
		t.Errorf("a secret is the same by any name, and no other: %v", both.Env)
	}
	if taken := trust(t, b, "{name: api.example, action: allow}"); taken.Root != nil || taken.Env == nil || len(taken.Env) > 0 {
		t.Errorf("what there was is not taken back: %v", taken)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("it is kept as %v, %v", fi, err)
	}
}

func TestEpochs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "binding.json")
	b := load(t, path)
	before := trust(t, b, one)
	if again := trust(t, load(t, path), one); !maps.Equal(again.Env, before.Env) || string(again.Root) != string(before.Root) {
		t.Error("another start of the daemon makes another binding")
	}
	if err := b.Renew(); err != nil {
		t.Fatal(err)
	}
	after := trust(t, load(t, path), one)
	if after.Env["A"] == before.Env["A"] {
		t.Error("the placeholder from before counts still")
	}
	if string(after.Root) != string(before.Root) {
		t.Error("the authority is another one")
	}
	if other := trust(t, load(t, filepath.Join(t.TempDir(), "binding.json")), one); other.Env["A"] == after.Env["A"] {
		t.Error("another sandbox has the same placeholder")
	}
}
