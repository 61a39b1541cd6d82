package token_test

import (
	"bytes"
	"testing"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/token"
)

func seed(t *testing.T, key byte) token.Seed {
	t.Helper()
	s, err := token.New(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSignIsThatOfExistingSDKs has the vector that their tests have.
func TestSignIsThatOfExistingSDKs(t *testing.T) {
	f := token.File{Path: "hello.txt", User: "user"}
	if got, want := token.Sign(f, "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0"), "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"; got != want {
		t.Errorf("signature = %s, want %s", got, want)
	}
}

func TestTokensAreOfOneSandboxAndHost(t *testing.T) {
	a := seed(t, 1)
	all := map[string]bool{
		a.Access("i1"): true, a.Access("i2"): true, a.Traffic("i1"): true, a.Traffic("i2"): true, seed(t, 2).Access("i1"): true,
	}
	if len(all) != 5 {
		t.Errorf("%d different tokens, want 5", len(all))
	}
	if !token.Is(seed(t, 1).Access("i1"), a.Access("i1")) || len(a.Access("i1")) != 64 {
		t.Error("not the same after a restart")
	}
	if token.Is("", "") {
		t.Error("nothing is as good as a token")
	}
}

func TestSignatureIsOfAllThatItSays(t *testing.T) {
	const access = "secret"
	signed := token.File{Path: "/a", User: "user", Expiration: "100"}
	signed.Signature = token.Sign(signed, access)
	if !token.Signed(signed, access) {
		t.Fatal("what was signed is not")
	}
	for name, change := range map[string]func(*token.File){
		"another path":       func(f *token.File) { f.Path = "/b" },
		"another user":       func(f *token.File) { f.User = "root" },
		"writing":            func(f *token.File) { f.Write = true },
		"a later end":        func(f *token.File) { f.Expiration = "200" },
		"no end":             func(f *token.File) { f.Expiration = "" },
		"no signature":       func(f *token.File) { f.Signature = "" },
		"a longer signature": func(f *token.File) { f.Signature += "=" },
	} {
		f := signed
		change(&f)
		if token.Signed(f, access) {
			t.Errorf("%s passed", name)
		}
	}
	if token.Signed(signed, "another") {
		t.Error("another token passed")
	}
}

func TestFresh(t *testing.T) {
	now := time.Unix(100, 0)
	for expiration, ok := range map[string]bool{"": true, "100": true, "101": true, "99": false, "-1": false, "x": false, "1e9": false} {
		err := token.Fresh(token.File{Expiration: expiration}, now)
		if (err == nil) != ok || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%q at 100: %v, want fresh: %v", expiration, err, ok)
		}
	}
}
