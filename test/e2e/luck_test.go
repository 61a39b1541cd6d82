package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkhead/test/harness"
)

// gambler starts a program that has drawn random numbers in each way that a
// program can, and draws again when it is asked. "aware" is a generator that
// does as AWS-LC does: it looks at the machine's generation before each draw.
const gambler = `cat > /run/gambler.py <<'END'
import json, mmap, os, random, secrets, uuid

class Aware:
    def __init__(self):
        with open("/dev/sysgenid", "rb") as f:
            self.page = mmap.mmap(f.fileno(), 4, prot=mmap.PROT_READ)
        self.reseed()
    def reseed(self):
        self.seen = self.page[:4]
        self.own = random.Random(secrets.randbits(256))
    def draw(self):
        if self.page[:4] != self.seen:
            self.reseed()
        return self.own.random()

blind, aware, system = random.Random(secrets.randbits(256)), Aware(), secrets.SystemRandom()
os.mkfifo("/run/ask")
os.mkfifo("/run/told")
while True:
    open("/run/ask").read()
    drawn = {"aware": aware.draw(), "system": system.random(), "uuid": str(uuid.uuid4()), "blind": blind.random()}
    with open("/run/told", "w") as told:
        json.dump(drawn, told)
END
nohup python3 /run/gambler.py > /dev/null 2>&1 < /dev/null &
while ! test -p /run/told; do :; done`

// draw asks the program for random numbers.
func draw(t *testing.T, b *harness.Box) map[string]any {
	t.Helper()
	said := b.Sh("echo > /run/ask; cat /run/told")
	var drawn map[string]any
	if err := json.Unmarshal([]byte(said), &drawn); err != nil {
		t.Fatalf("in %s it says %q: %v", b.Name, said, err)
	}
	return drawn
}

// wantOwnLuck checks that a program that was seeded before a fork draws numbers
// of its own in each machine, if it asks the kernel each time or looks at the
// generation. One that does neither draws the same everywhere: that it is the
// same program shows in that, and that nobody can mend it from outside.
func wantOwnLuck(t *testing.T, all []*harness.Box) {
	t.Helper()
	seen := map[string]map[string]int{}
	for _, b := range all {
		for how, number := range draw(t, b) {
			if seen[how] == nil {
				seen[how] = map[string]int{}
			}
			seen[how][fmt.Sprint(number)]++
		}
	}
	for how, numbers := range seen {
		want := len(all)
		if how == "blind" {
			want = 1
		}
		if len(numbers) != want {
			t.Errorf("%s: %d machines draw %v", how, len(all), numbers)
		}
	}
}

// networkOf names the namespace that holds a machine's only tap.
func networkOf(t *testing.T, h *harness.Host, b *harness.Box) string {
	t.Helper()
	return fileID(t, filepath.Join(h.Dir, "run", b.Inspect().ID, "netns"))
}

// channelOf names the socket that leads to a machine's agent: the first in its
// run directory that its VMM listens on by that name.
func channelOf(t *testing.T, h *harness.Host, b *harness.Box) string {
	t.Helper()
	dir := filepath.Join(h.Dir, "run", b.Inspect().ID)
	for _, name := range folder(t, dir) {
		if strings.HasPrefix(name, "guest") {
			return fileID(t, filepath.Join(dir, name))
		}
	}
	t.Fatalf("there is no channel in %s: %v", dir, folder(t, dir))
	return ""
}

// fileID is what no other file of the host has.
func fileID(t *testing.T, path string) string {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(&os.PathError{Op: "stat", Path: path, Err: err})
	}
	return fmt.Sprint(s.Dev, ":", s.Ino)
}
