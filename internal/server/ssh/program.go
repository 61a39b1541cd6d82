package ssh

// program is what is started in the guest.
type program struct {
	cmd  string
	args []string
}

// shellScript becomes the user's own shell, with a command if there is one. It
// needs no program but the shell that runs it: each costs time, and a guest may
// have lost any.
const shellScript = `while IFS=: read -r name _ _ _ _ _ SHELL; do [ "$name" = "$USER" ] && break; done </etc/passwd
: "${SHELL:=/bin/sh}"
export SHELL
if [ $# -gt 0 ]; then exec "$SHELL" -c "$1"; fi
exec "$SHELL" -l`

// loginShell is the user's shell, or a command in it.
func loginShell(command ...string) program {
	return program{"/bin/sh", append([]string{"-c", shellScript, "sh"}, command...)}
}

// fileServer is the agent's own, which any image has.
func fileServer() program {
	return program{"/run/bulkhead/bulkhead-guest", []string{"sftp"}}
}

// signalNames are the signals that SSH has names for, by their numbers (RFC
// 4254, section 6.10; signal(7)).
func signalNames() map[int]string {
	return map[int]string{
		1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 8: "FPE", 9: "KILL",
		10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM",
	}
}

// signalOf returns the number of a signal, 0 for one that has no name.
func signalOf(name string) int {
	for number, n := range signalNames() {
		if n == name {
			return number
		}
	}
	return 0
}
