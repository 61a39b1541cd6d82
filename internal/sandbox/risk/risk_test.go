package risk_test

import (
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/risk"
)

func TestFits(t *testing.T) {
	for _, tt := range []struct {
		pattern, command string
		want             bool
	}{
		{"rm -r*", "rm -rf /srv", true},
		{"rm -r*", "/bin/rm -r x", true},
		{"rm -r*", "sudo rm -r x", true},
		{"rm -r*", "sh|-c|cd /srv && rm -rf data", true},
		{"rm -r*", "bash|-lc|echo `rm -rf data`", true},
		{"rm -r*", "sh|-c|'rm' -rf x", false}, // what quotes hide stays hidden
		{"rm -r*", "rm notes", false},
		{"rm -r*", "farm -r", false},
		{"rm -r*", "echo rm; ls -r", false},
		{"terraform destroy", "terraform destroy", true},
		{"terraform destroy", "terraform destroyer", false},
		{"psql *prod*", "psql -h db -d prod-eu", true},
		{"psql *prod*", "psql -h db; echo prod", false},
		{"a.c", "abc", false},
		{"@packages", "apt-get|install|-y|hello", true},
		{"@packages", "python3|-m|pip|install|x", true},
		{"@packages", "cat|apt.conf", false},
		{"@root", "sudo|true", true},
		{"@root", "su", true},
		{"@root", "summary", false},
		{"@destructive", "psql|-c|DROP TABLE users", true},
		{"@destructive", "find|/srv|-name|*.bak|-delete", true},
		{"@destructive", "ls|/srv", false},
		{"@any", "ls|/srv", true},
	} {
		if got := risk.Fits([]string{"nothing like it", tt.pattern}, strings.Split(tt.command, "|")); got != tt.want {
			t.Errorf("%s, %s: %v", tt.pattern, tt.command, got)
		}
	}
	if risk.Fits(nil, []string{"rm", "-rf", "/"}) {
		t.Error("without patterns something fits")
	}
}

func TestCheck(t *testing.T) {
	if err := risk.Check([]string{"rm -r*", "@any", "@root", "@packages", "@destructive"}); err != nil {
		t.Error(err)
	}
	for _, p := range []string{"", "*", " * ", "@all", strings.Repeat("x", 201)} {
		if err := risk.Check([]string{p}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.10q: %v", p, err)
		}
	}
}
