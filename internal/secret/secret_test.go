package secret_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/secret"
)

func open(t *testing.T, path string, key byte) *secret.Vault {
	t.Helper()
	v, err := secret.Open(path, bytes.Repeat([]byte{key}, 32), func() time.Time { return time.Unix(1e9, 0).UTC() })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func set(t *testing.T, v *secret.Vault, name, value string) {
	t.Helper()
	if err := v.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

func TestKeptAndSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	const value = "sk-0123456789"
	v := open(t, path, 1)
	set(t, v, "openai", "an older value")
	set(t, v, "openai", value)
	again := open(t, path, 1)
	if got, err := again.Get("openai"); got != value || err != nil {
		t.Errorf("after another start it is %q, %v", got, err)
	}
	if got := again.List(); len(got) != 1 || got[0].Name != "openai" || !got[0].Set.Equal(time.Unix(1e9, 0)) {
		t.Errorf("the list is %v", got)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(value)) {
		t.Error("the file holds the value as it is")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", fi.Mode(), err)
	}
	if _, err := open(t, path, 2).Get("openai"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another host's key opens it: %v", err)
	}
	if err := again.Remove("openai"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"get": second(open(t, path, 1).Get("openai")), "remove": again.Remove("openai")} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of a removed secret: %v", what, err)
		}
	}
}

func second(_ string, err error) error { return err }

// A value is sealed with its name: who may write the file cannot hand one
// secret to those who may use another.
func TestExchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	v := open(t, path, 1)
	set(t, v, "mine", "value-of-mine")
	set(t, v, "other", "value-of-other")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	kept["mine"], kept["other"] = kept["other"], kept["mine"]
	if b, err = json.Marshal(kept); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, path, 1).Get("mine"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("the other's value is given for it: %q, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	v := open(t, filepath.Join(t.TempDir(), "secrets.json"), 1)
	for name, value := range map[string]string{
		"":                      "long enough",
		"../up":                 "long enough",
		strings.Repeat("n", 64): "long enough",
		"short":                 "1234567",
		"long":                  strings.Repeat("x", secret.MaxValue+1),
		"lines":                 "first line\nX-Other: second",
		"control":               "text\x00and zero",
	} {
		err := v.Set(name, value)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("set %q: %v", name, err)
		}
		if err != nil && value != "long enough" && strings.Contains(err.Error(), value) {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
	if got := v.List(); len(got) != 0 {
		t.Errorf("kept %v", got)
	}
}
