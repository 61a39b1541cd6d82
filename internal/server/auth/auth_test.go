package auth_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
)

// store keeps keys in memory and counts what is written.
type store struct {
	keys   map[string]auth.Key
	writes int
	err    error
}

func (s *store) SaveKey(_ context.Context, k auth.Key) error {
	if s.err == nil {
		s.keys[k.Name] = k
		s.writes++
	}
	return s.err
}
func (s *store) DeleteKey(_ context.Context, name string) error {
	if s.err == nil {
		delete(s.keys, name)
	}
	return s.err
}
func (s *store) Keys(context.Context) ([]auth.Key, error) {
	return slices.Collect(maps.Values(s.keys)), s.err
}

func open(t *testing.T, s *store) *auth.Keys {
	t.Helper()
	if s.keys == nil {
		s.keys = map[string]auth.Key{}
	}
	k, err := auth.Open(t.Context(), s, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func create(t *testing.T, k *auth.Keys, key auth.Key) string {
	t.Helper()
	_, value, err := k.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestPrincipals(t *testing.T) {
	team := auth.Principal{Team: "a", Scope: auth.Read}
	one := auth.Principal{Team: "a", Scope: auth.Operate, Sandbox: "i1"}
	owner := auth.Principal{Team: auth.DefaultTeam, Scope: auth.Read}
	for name, tt := range map[string]struct {
		got, want bool
	}{
		"nobody sees nothing":                      {auth.From(context.Background()).Sees("a", "i1"), false},
		"nobody sees nothing of no team":           {auth.Principal{}.Sees("", ""), false},
		"nobody is no operator":                    {auth.Principal{}.IsOperator(), false},
		"a team without a scope sees nothing":      {auth.Principal{Team: "a"}.Sees("a", "i1"), false},
		"the operator sees all":                    {auth.Operator().Sees("a", "i1"), true},
		"a team sees its own":                      {team.Sees("a", "i1"), true},
		"a team does not see another's":            {team.Sees("b", "i1"), false},
		"a token sees its sandbox":                 {one.Sees("a", "i1"), true},
		"a token does not see another":             {one.Sees("a", "i2"), false},
		"a token does not see another team's":      {one.Sees("b", "i1"), false},
		"the default team owns the host":           {owner.Owner(), true},
		"the operator owns the host":               {auth.Operator().Owner(), true},
		"another team does not":                    {team.Owner(), false},
		"a token of the default team does not":     {auth.Principal{Team: auth.DefaultTeam, Scope: auth.Operate, Sandbox: "i1"}.Owner(), false},
		"what is in a context comes out of it":     {auth.From(auth.With(context.Background(), team)) == team, true},
		"what the operator makes is the default's": {auth.Operator().Home() == auth.DefaultTeam, true},
		"read is not operate":                      {fault.Is(team.Need(auth.Operate), fault.Denied), true},
		"admin is read too":                        {auth.Operator().Need(auth.Read) == nil, true},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
}

func TestScopesReadWhatTheyWrite(t *testing.T) {
	for _, s := range []auth.Scope{auth.Read, auth.Operate, auth.Admin} {
		if got, err := auth.ParseScope(s.String()); got != s || err != nil {
			t.Errorf("ParseScope(%s) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "none", "root", "Admin"} {
		if _, err := auth.ParseScope(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseScope(%q) = %v, want %s", s, err, fault.Invalid)
		}
	}
}

func TestKeys(t *testing.T) {
	s := &store{}
	keys := open(t, s)
	value := create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Operate})
	if !auth.LooksLike(value) || len(value) != 44 {
		t.Errorf("value %q has not the form of a key", value)
	}
	if strings.Contains(string(s.keys["ci"].Hash), value[4:]) || len(s.keys["ci"].Hash) != 32 {
		t.Errorf("stored: %x, want a hash", s.keys["ci"].Hash)
	}
	// A later daemon knows it too.
	for _, k := range []*auth.Keys{keys, open(t, s)} {
		ctx, done, err := k.Admit(t.Context(), value)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := auth.From(ctx), (auth.Principal{Team: "a", Scope: auth.Operate, Key: "ci"}); got != want {
			t.Errorf("principal = %+v, want %+v", got, want)
		}
		done()
	}
	for _, wrong := range []string{"", "e2b_", value[:43], value + "0", strings.ToUpper(value), "e2b_" + strings.Repeat("0", 40)} {
		if _, _, err := keys.Admit(t.Context(), wrong); !errors.Is(err, auth.ErrUnknown) {
			t.Errorf("Admit(%q) = %v, want %v", wrong, err, auth.ErrUnknown)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	s := &store{}
	keys := open(t, s)
	create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Read})
	for name, tt := range map[string]struct {
		key  auth.Key
		kind fault.Kind
	}{
		"no name":             {auth.Key{Team: "a", Scope: auth.Read}, fault.Invalid},
		"a name that is none": {auth.Key{Name: "a\x1b", Team: "a", Scope: auth.Read}, fault.Invalid},
		"a name twice":        {auth.Key{Name: "ci", Team: "b", Scope: auth.Read}, fault.Exists},
		"no scope":            {auth.Key{Name: "x", Team: "a"}, fault.Invalid},
		"a scope beyond":      {auth.Key{Name: "x", Team: "a", Scope: 9}, fault.Invalid},
		"all teams":           {auth.Key{Name: "x", Team: auth.AllTeams, Scope: auth.Admin}, fault.Invalid},
		"no team":             {auth.Key{Name: "x", Scope: auth.Admin}, fault.Invalid},
		"over already":        {auth.Key{Name: "x", Team: "a", Scope: auth.Read, Expires: time.Now()}, fault.Invalid},
		"an agent as admin":   {auth.Key{Name: "x", Team: "a", Scope: auth.Admin, Sandbox: "i1"}, fault.Invalid},
	} {
		if _, value, err := keys.Create(t.Context(), tt.key); !fault.Is(err, tt.kind) || value != "" {
			t.Errorf("%s: %q, %v, want %s", name, value, err, tt.kind)
		}
	}
	if got, want := len(keys.List()), 1; got != want {
		t.Errorf("%d keys, want %d", got, want)
	}
}

func TestRevokedKeyEndsWhatGoesOn(t *testing.T) {
	keys := open(t, &store{})
	value := create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Read})
	other := create(t, keys, auth.Key{Name: "other", Team: "a", Scope: auth.Read})
	ctx, done, err := keys.Admit(t.Context(), value)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	stays, done, err := keys.Admit(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := keys.Revoke(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got, want := context.Cause(ctx), auth.ErrRevoked; got != want {
		t.Errorf("cause = %v, want %v", got, want)
	}
	if stays.Err() != nil {
		t.Error("another key's request ended too")
	}
	if _, _, err := keys.Admit(t.Context(), value); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("Admit of a revoked key = %v", err)
	}
	if err := keys.Revoke(t.Context(), "ci"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Revoke again = %v, want %s", err, fault.NotFound)
	}
}

func TestRevokeThatIsNotStoredIsAnError(t *testing.T) {
	s := &store{}
	keys := open(t, s)
	value := create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Read})
	s.err = errors.New("disk")
	if err := keys.Revoke(t.Context(), "ci"); err == nil {
		t.Error("revoked, but it would be back after a restart")
	}
	if _, done, err := keys.Admit(t.Context(), value); err != nil {
		t.Errorf("Admit = %v, want what the operator was told: it is still good", err)
	} else {
		done()
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := open(t, &store{})
		value := create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Read, Expires: time.Now().Add(time.Hour)})
		ctx, done, err := keys.Admit(t.Context(), value)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		began := time.Now()
		<-ctx.Done()
		if got, want := time.Since(began), time.Hour; got != want || context.Cause(ctx) != auth.ErrRevoked {
			t.Errorf("ended after %s with %v, want %s", got, context.Cause(ctx), want)
		}
		if _, _, err := keys.Admit(t.Context(), value); !errors.Is(err, auth.ErrUnknown) {
			t.Errorf("Admit after it = %v", err)
		}
	})
}

func TestUseIsNotedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		keys := open(t, s)
		value := create(t, keys, auth.Key{Name: "ci", Team: "a", Scope: auth.Read})
		s.writes = 0
		use := func() {
			_, done, err := keys.Admit(t.Context(), value)
			if err != nil {
				t.Fatal(err)
			}
			done()
		}
		for range 100 {
			use()
		}
		first := s.keys["ci"].Used
		<-time.After(time.Minute)
		use()
		if s.writes != 2 || first.IsZero() || s.keys["ci"].Used.Sub(first) != time.Minute {
			t.Errorf("%d writes, used %s then %s", s.writes, first, s.keys["ci"].Used)
		}
	})
}

func TestKeysOfAGoneSandboxEnd(t *testing.T) {
	keys := open(t, &store{})
	create(t, keys, auth.Key{Name: "agent", Team: "a", Scope: auth.Operate, Sandbox: "i1"})
	create(t, keys, auth.Key{Name: "team", Team: "a", Scope: auth.Operate})
	if err := keys.Forget(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	if all := keys.List(); len(all) != 1 || all[0].Name != "team" {
		t.Errorf("left: %+v, want that of the team", all)
	}
}
