package leak

import (
	"runtime"
	"strings"
)

// eternal goroutines are started once by the standard library and never end.
var eternal = []string{"os/signal.loop", "os/signal.signal_recv", "runtime.runFinalizers", "runtime.runCleanups"}

// goroutines adds those of this process, but for the one that asks.
func goroutines(found things) {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	// The first trace is that of the caller.
	for _, trace := range strings.Split(string(buf), "\n\n")[1:] {
		head, stack, _ := strings.Cut(trace, "\n")
		number, _, _ := strings.Cut(head, " [")
		if number != "" && !containsAny(stack, eternal) {
			found.add("\n"+stack, "%s", number)
		}
	}
}

func containsAny(s string, substrings []string) bool {
	for _, sub := range substrings {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}
