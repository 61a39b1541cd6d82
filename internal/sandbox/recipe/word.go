package recipe

import (
	"regexp"
	"strings"
)

// reference is where a value means a variable.
var reference = regexp.MustCompile(`\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})`)

// Word writes a value of ENV as a word of a shell: variables in it stand for
// what they are in the machine, and nothing else in it means anything. refers is
// false if there are none, and the value is to be taken as it is.
func Word(value string) (word string, refers bool) {
	var b strings.Builder
	b.WriteByte('"')
	rest := value
	for {
		at := reference.FindStringIndex(rest)
		if at == nil {
			break
		}
		refers = true
		b.WriteString(escape(rest[:at[0]]))
		b.WriteString(rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	b.WriteString(escape(rest))
	b.WriteByte('"')
	return b.String(), refers
}

// escape makes s plain within double quotes (POSIX, Shell Command Language,
// 2.2.3).
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(s)
}
