package egress_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/egress"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/egress/proxy"
	"bulkhead/internal/fault"
)

func parsed(t *testing.T, doc string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// perimeter returns what makes perimeters of one folder, one after the other, as
// daemons do.
func perimeter(t *testing.T, secret func(string) (string, error)) (dir string, open func() *egress.Perimeter) {
	dir = t.TempDir()
	return dir, func() *egress.Perimeter {
		return egress.New(egress.Config{
			Dir: dir, LinkPath: func(id string) string { return filepath.Join(dir, id+".link") },
			Default: parsed(t, "version: 1\ndefault: deny\n"), AskLimit: time.Minute, Secret: secret,
			Event: func(context.Context, string, string, map[string]string) {},
			Clock: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}
}

func allow(name string) func(*policy.Policy) (*policy.Policy, error) {
	return func(p *policy.Policy) (*policy.Policy, error) { return p.Allow(name, nil, "") }
}

// A guest asks for many names at once, and each keeps its stand-in for good.
func TestNamesAskedForAtOnceAreKept(t *testing.T) {
	_, open := perimeter(t, nil)
	p := open()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if err := p.NameFor("i1", fmt.Sprintf("n%d.example", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want, err := p.Names("i1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := open().Names("i1")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := json.Unmarshal(got, &names); err != nil || len(names) != 100 || string(got) != string(want) {
		t.Errorf("%d names are kept of 100, error %v", len(names), err)
	}
}

// Nobody's rule is lost because somebody else adds one at the same time.
func TestRulesAddedAtOnceAreKept(t *testing.T) {
	_, open := perimeter(t, nil)
	p := open()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if err := p.ChangePolicy(t.Context(), "i1", allow(fmt.Sprintf("n%d.example", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for what, p := range map[string]*egress.Perimeter{"in force": p, "kept": open()} {
		if now, err := p.Policy("i1"); err != nil || len(now.Rules) != 50 {
			t.Errorf("%d rules of 50 are %s, error %v", len(now.Rules), what, err)
		}
	}
}

// A change that is refused leaves the policy that there is.
func TestRefusedChange(t *testing.T) {
	_, open := perimeter(t, nil)
	p := open()
	if err := p.ChangePolicy(t.Context(), "i1", allow("a.example")); err != nil {
		t.Fatal(err)
	}
	if err := p.ChangePolicy(t.Context(), "i1", allow("*.*.example")); !fault.Is(err, fault.Invalid) {
		t.Errorf("error = %v", err)
	}
	if now, err := p.Policy("i1"); err != nil || len(now.Rules) != 1 {
		t.Errorf("it is %s, %v", now.Marshal(), err)
	}
}

// Whoever asks about a sandbox that has just been removed leaves nothing of it.
func TestNothingComesBackOfAForgottenSandbox(t *testing.T) {
	dir, open := perimeter(t, nil)
	p := open()
	if err := p.ChangePolicy(t.Context(), "i1", allow("a.example")); err != nil {
		t.Fatal(err)
	}
	if err := p.Forget(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	now, err := p.Policy("i1")
	if err != nil || len(now.Rules) != 0 {
		t.Errorf("policy is %+v, %v", now, err)
	}
	if _, err := p.Moved("i1"); err != nil {
		t.Error(err)
	}
	if _, err := p.State("i1"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "i1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v, want that it does not exist", err)
	}
}

// A secret that was removed does not keep its users' policies from being changed;
// a new rule needs one that is there.
func TestPolicyWithARemovedSecret(t *testing.T) {
	vault := map[string]string{"tok": "x"}
	_, open := perimeter(t, func(name string) (string, error) {
		if v, ok := vault[name]; ok {
			return v, nil
		}
		return "", fault.New(fault.NotFound, "no secret is called %q", name)
	})
	p := open()
	with := func(secret string) func(*policy.Policy) (*policy.Policy, error) {
		return func(p *policy.Policy) (*policy.Policy, error) {
			return p.AllowWith(secret+".example", nil, policy.Secret{Name: secret, Header: "X-Key: {}"})
		}
	}
	if err := p.ChangePolicy(t.Context(), "i1", with("tok")); err != nil {
		t.Fatal(err)
	}
	delete(vault, "tok")
	if err := p.ChangePolicy(t.Context(), "i1", allow("b.example")); err != nil {
		t.Errorf("another rule: %v", err)
	}
	if err := p.ChangePolicy(t.Context(), "i1", with("other")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a rule with a secret that is not there: %v", err)
	}
}

// asking has a connection wait for the operator.
func asking(t *testing.T, p *egress.Perimeter, destination string) chan proxy.Verdict {
	to, err := policy.ParseDestination(destination)
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan proxy.Verdict, 1)
	go func() {
		v, err := p.Decide(context.Background(), "i1", proxy.Destination(to))
		if err != nil {
			t.Error(err)
		}
		c <- v
	}()
	synctest.Wait()
	return c
}

// Who waits for the operator goes on once the policy allows it; who waits for
// something else waits on.
func TestRuleAnswersWhoWaits(t *testing.T) {
	_, open := perimeter(t, nil)
	synctest.Test(t, func(t *testing.T) {
		p := open()
		if err := p.SetPolicy(t.Context(), "i1", parsed(t, "version: 1\ndefault: ask\n")); err != nil {
			t.Fatal(err)
		}
		one, other := asking(t, p, "a.example:443"), asking(t, p, "b.example:443")
		if err := p.ChangePolicy(t.Context(), "i1", allow("a.example")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case v := <-one:
			if !v.Allow || !strings.Contains(v.Rule, "allowed by the policy as it is now") {
				t.Errorf("verdict %+v", v)
			}
		default:
			t.Error("it waits although a rule allows it")
		}
		if q, err := p.Pending("i1"); err != nil || len(q) != 1 || q[0].Destination != "b.example:443" {
			t.Errorf("pending %+v, %v", q, err)
		}
		<-other // nobody answers
	})
}

// What the operator has approved of for a time is told while it counts, and can
// be taken back.
func TestApprovalIsTold(t *testing.T) {
	_, open := perimeter(t, nil)
	synctest.Test(t, func(t *testing.T) {
		p := open()
		if err := p.SetPolicy(t.Context(), "i1", parsed(t, "version: 1\ndefault: ask\n")); err != nil {
			t.Fatal(err)
		}
		to := policy.Destination{Name: "a.example", Port: 443}
		want := func(action policy.Action, approvals int) {
			t.Helper()
			v, err := p.Test("i1", to)
			if err != nil || v.Action != action {
				t.Errorf("verdict %+v, %v, want %s", v, err, action)
			}
			if s, err := p.State("i1"); err != nil || len(s.Approved) != approvals {
				t.Errorf("approved %+v, %v, want %d", s.Approved, err, approvals)
			}
		}
		approve := func() {
			c := asking(t, p, "a.example:443")
			if err := p.Answer(t.Context(), "i1", "a.example:443", egress.Answer{Allow: true, For: time.Hour}); err != nil {
				t.Fatal(err)
			}
			<-c
		}
		want(policy.Ask, 0)
		approve()
		want(policy.Allow, 1)
		<-time.After(time.Hour)
		want(policy.Ask, 0)
		approve()
		if err := p.Answer(t.Context(), "i1", "a.example:443", egress.Answer{}); err != nil {
			t.Errorf("taken back: %v", err)
		}
		want(policy.Ask, 0)
		if err := p.Answer(t.Context(), "i1", "a.example:443", egress.Answer{}); !fault.Is(err, fault.NotFound) {
			t.Errorf("taken back twice: %v", err)
		}
	})
}
