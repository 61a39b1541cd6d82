// Package risk tells which commands are risky enough for a snapshot just before
// them.
//
// It sees what is asked of a machine from outside, not what a program inside
// starts, nor what is typed into a shell. So it is a help against mistakes, and
// no wall. It is pure: no I/O.
package risk

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"bulkhead/internal/fault"
)

// maxPattern bounds a pattern, maxLine how much of a command line is looked at,
// both in bytes.
const (
	maxPattern = 200
	maxLine    = 64 << 10
)

// groups are patterns by the name that stands for them.
func groups() map[string][]string {
	return map[string][]string{
		"@any":  {"*"},
		"@root": {"sudo *", "su", "su *", "doas *", "pkexec *"},
		"@packages": {
			"apt *", "apt-get *", "dpkg *", "dnf *", "yum *", "apk *", "snap *",
			"pip *", "pip3 *", "pipx *", "uv *", "npm *", "npx *", "pnpm *", "yarn *", "gem *", "cargo *", "go install *",
		},
		"@destructive": {
			"rm -r*", "rm -R*", "rm -f*", "rm --*", "find *-delete*", "shred *", "truncate *", "dd *", "mkfs*", "wipefs *",
			"git reset --hard*", "git clean *", "git push --force*", "docker system prune*", "docker volume rm*",
			"dropdb *", "*drop table*", "*drop database*", "*DROP TABLE*", "*DROP DATABASE*",
			"chmod -R*", "chown -R*", "reboot*", "shutdown*", "poweroff*",
		},
	}
}

// Check returns a fault.Invalid error for the first pattern that is none.
func Check(patterns []string) error {
	for _, p := range patterns {
		if _, ok := groups()[p]; strings.HasPrefix(p, "@") && !ok {
			return fault.New(fault.Invalid, "no group of commands is called %.20q", p).
				Hint("there are %s", strings.Join(slices.Sorted(maps.Keys(groups())), ", "))
		}
		if strings.Trim(p, "* ") == "" || len(p) > maxPattern {
			return fault.New(fault.Invalid, "%.20q is no pattern of commands", p).Hint("write it like 'rm -r*'")
		}
	}
	return nil
}

// Fits reports whether a command, its program first, or one within it, fits one
// of the patterns, in which * stands for anything up to the end of a command.
func Fits(patterns, command []string) bool {
	line := strings.Join(command, " ")
	line = line[:min(len(line), maxLine)]
	for _, p := range patterns {
		members, ok := groups()[p]
		if !ok {
			members = []string{p}
		}
		if slices.ContainsFunc(members, func(m string) bool { return expression(m).MatchString(line) }) {
			return true
		}
	}
	return false
}

// expression is a pattern at the beginning of a command: of the line, after what
// ends another command or opens a quote, after a blank (as in "sudo rm") or a
// path (as in /bin/rm).
func expression(pattern string) *regexp.Regexp {
	const begin, end = "(?:^|[\\s;&|(`'\"/])", "(?:$|[\\s;&|)`'\"])"
	var e strings.Builder
	e.WriteString(begin)
	for i, part := range strings.Split(pattern, "*") {
		if i > 0 {
			e.WriteString("[^\\n;&|]*")
		}
		e.WriteString(regexp.QuoteMeta(part))
	}
	if !strings.HasSuffix(pattern, "*") {
		e.WriteString(end)
	}
	return regexp.MustCompile(e.String()) // all but its frame is quoted
}
