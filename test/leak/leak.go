// Package leak fails tests that leave something behind on the host, and cleans
// up after test binaries that were killed.
//
// Other tests and other programs use the same host at the same time, so it is
// not enough that something is new. It has to belong to the test: a goroutine
// of this process; a process below this one, or one with the test's folders in
// its command line; a mount or a loop device on something in those folders. Of
// control groups, network namespaces and tap devices nobody can tell whose
// they are: those count that are new and that no process of anybody else uses.
//
// leak knows the kernel's tables, nothing of the product. Check is for tests
// that do not run in parallel with others of their package.
package leak

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long things may take to go away after their release has
// returned: the kernel drops loop devices and control groups a little later.
const patience = 5 * time.Second

// Check fails t when, after its other clean-ups, something is left of it that
// was not there before. Call it first. What is in t's own temporary folder or
// in one of dirs belongs to t.
func Check(t testing.TB, dirs ...string) {
	t.Helper()
	check(t, patience, dirs)
}

func check(t testing.TB, patience time.Duration, dirs []string) {
	t.Helper()
	// A test's temporary folders have a folder of their own above them.
	// Asking for one now also has it removed after the check.
	dirs = append([]string{filepath.Dir(t.TempDir())}, dirs...)
	before, err := survey(dirs)
	if err != nil {
		t.Fatalf("look for leaks: %v", err)
	}
	t.Cleanup(func() {
		left, err := settle(dirs, before, patience)
		if err != nil {
			t.Errorf("look for leaks: %v", err)
		}
		for _, key := range slices.Sorted(maps.Keys(left)) {
			t.Errorf("left behind: %s%s", key, left[key])
		}
	})
}

// settle looks until nothing is left that was not in before, or patience ends.
// It looks less and less often.
func settle(dirs []string, before things, patience time.Duration) (left things, err error) {
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		left, err = survey(dirs)
		maps.DeleteFunc(left, func(key, _ string) bool { _, known := before[key]; return known })
		if err != nil || len(left) == 0 || patience <= 0 {
			return left, err
		}
		<-time.After(min(pause, patience))
		patience -= pause
	}
}

// things are what could leak: what identifies each, which is never used again
// for another one, and what else helps to find where it came from.
type things map[string]string

func (ts things) add(details, format string, args ...any) { ts[fmt.Sprintf(format, args...)] = details }

// survey finds everything that belongs to the owner of dirs, and what may.
func survey(dirs []string) (things, error) {
	found := things{}
	procs, err := processes()
	if err != nil {
		return nil, err
	}
	goroutines(found)
	descendants(found, procs, dirs)
	for _, look := range []func(things, []process, []string) error{mounts, loops, leases, controlGroups, namespaces, taps} {
		if err := look(found, procs, dirs); err != nil {
			return found, err
		}
	}
	return found, nil
}

// within reports whether path is one of dirs or lies below one.
func within(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	})
}
