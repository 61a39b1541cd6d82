package policy_test

import (
	"testing"

	"bulkhead/internal/egress/policy"
)

func preset(t *testing.T, name string) *policy.Policy {
	t.Helper()
	p, ok := policy.Preset(name)
	if !ok {
		t.Fatalf("there is no preset %s", name)
	}
	return p
}

func TestPresets(t *testing.T) {
	for _, name := range policy.Presets() {
		t.Run(name, func(t *testing.T) {
			p := preset(t, name)
			if !parse(t, string(p.Marshal())).Equal(p) {
				t.Errorf("parsed back it is another:\n%s", p.Marshal())
			}
			// Parse takes a preset's rules and default, but no limits, and a
			// preset that used itself would never end.
			if p.Limits != nil || p.Use != nil {
				t.Errorf("it has limits or uses another:\n%s", p.Marshal())
			}
		})
	}
	if _, ok := policy.Preset("../presets/none"); ok {
		t.Error("a path is a preset")
	}
}

func TestPackages(t *testing.T) {
	p := preset(t, "packages")
	for _, host := range []string{
		"deb.debian.org", "security.debian.org",
		"pypi.org", "files.pythonhosted.org",
		"registry.npmjs.org", "registry.yarnpkg.com",
		"proxy.golang.org", "sum.golang.org",
		"index.crates.io", "static.crates.io", "rubygems.org", "index.rubygems.org",
		"auth.docker.io", "registry-1.docker.io", "production.cloudflare.docker.com",
		"github.com", "api.github.com", "codeload.github.com", "objects.githubusercontent.com", "raw.githubusercontent.com",
	} {
		if v := p.Decide(at(host, 443)); v.Action != policy.Allow {
			t.Errorf("%s: %+v", host, v)
		}
		if v := p.MayResolve(host); v.Action != policy.Allow {
			t.Errorf("look up %s: %+v", host, v)
		}
		if v := p.Decide(at(host, 22)); v.Action != policy.Deny {
			t.Errorf("%s by SSH: %+v", host, v)
		}
	}
	if v := p.Decide(at("deb.debian.org", 80)); v.Action != policy.Allow {
		t.Errorf("Debian by HTTP: %+v", v)
	}
	for _, host := range []string{
		"example.com", "upload.pypi.org", "gist.github.com", "storage.googleapis.com", "paste.debian.net", "salsa.debian.org", "8.8.8.8",
		"github.com.example.com", "evilgithub.com", "pypi.org.example",
	} {
		if v := p.Decide(at(host, 443)); v.Action != policy.Deny {
			t.Errorf("%s: %+v", host, v)
		}
	}
	for _, r := range p.Rules {
		if r.Comment == "" || r.Action != policy.Allow || r.Name == "" || r.Name[0] == '*' {
			t.Errorf("want one host, allowed, and what it is for: %s", r)
		}
	}
}

func TestNoneAndPublic(t *testing.T) {
	for _, host := range []string{"example.com", "8.8.8.8"} {
		if v := preset(t, "none").Decide(at(host, 443)); v.Action != policy.Deny {
			t.Errorf("none: %s: %+v", host, v)
		}
		if v := preset(t, "public").Decide(at(host, 12345)); v.Action != policy.Allow {
			t.Errorf("public: %s: %+v", host, v)
		}
	}
	for _, host := range []string{"10.0.0.1", "169.254.169.254", "::1", "64:ff9b::a00:1"} {
		if v := preset(t, "public").Decide(at(host, 443)); v.Action != policy.Deny {
			t.Errorf("public: %s: %+v", host, v)
		}
	}
}
