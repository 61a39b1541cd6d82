package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/config"
	"bulkhead/test/harness"
)

// Every VMM runs in a cage of its own, which is whole after each way to come
// to a machine, and the kernel says so.
func TestCages(t *testing.T) {
	h := harness.New(t).Base()
	one, two := h.Create("caged"), h.Create("neighbour")
	users := map[int]string{}
	for _, b := range []*harness.Box{one, two} {
		c := wantWhole(t, h, b)
		if other, taken := users[c.UID]; taken {
			t.Errorf("%s and %s are both user %d", b.Name, other, c.UID)
		}
		users[c.UID] = b.Name
		if c.UID < config.DefaultJailFirstUID || c.UID >= config.DefaultJailFirstUID+config.DefaultJailUIDs {
			t.Errorf("%s is user %d, out of the range", b.Name, c.UID)
		}
		if seen := len(c.Mounts); seen != 5 { // the root, memory, disk, kernel and initrd
			t.Errorf("%s sees %v", b.Name, c.Mounts)
		}
	}
	t.Run("after a snapshot", func(t *testing.T) {
		one.Snapshot("moment")
		wantWhole(t, h, one)
	})
	t.Run("after a rollback", func(t *testing.T) {
		one.Rollback("moment")
		wantWhole(t, h, one)
	})
	t.Run("after another daemon took it over", func(t *testing.T) {
		h.Kill()
		if err := h.Serve(); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, h, one)
	})
	t.Run("the files of each are its own, and root's afterwards", func(t *testing.T) {
		owned := owners(t, h)
		for uid, name := range users {
			if name == two.Name && owned[uid] != 2 { // memory and disk
				t.Errorf("%s owns %d files", name, owned[uid])
			}
		}
		two.Exec("sh", "-c", "poweroff")
		h.Must("rm", one.Name)
		await(t, two, client.StateStopped)
		for uid, n := range owners(t, h) {
			t.Errorf("user %d still owns %d files", uid, n)
		}
	})
}

// wantWhole asks for the cage and checks that it is as it must be.
func wantWhole(t *testing.T, h *harness.Host, b *harness.Box) *client.Cage {
	t.Helper()
	if out := h.CLI("doctor", "--jail", b.Name); out.Code != 0 {
		t.Fatalf("doctor --jail: %s%s", out.Stdout, out.Stderr)
	}
	c := b.Inspect().VMM.Cage
	if c == nil || len(c.Differences) > 0 || len(c.Capabilities) > 0 || len(c.SharedNamespaces) > 0 {
		t.Fatalf("cage of %s: %+v", b.Name, c)
	}
	return c
}

// A cage that is not whole is told loudly: here its limit of processes was
// raised by somebody.
func TestBrokenCageIsFound(t *testing.T) {
	h := harness.New(t).Base()
	b := h.Create("loosened")
	uid := wantWhole(t, h, b).UID
	files, err := filepath.Glob("/sys/fs/cgroup/*/bulkhead/u" + strconv.Itoa(uid) + "/pids.max")
	if err != nil || len(files) == 0 {
		files = []string{"/sys/fs/cgroup/bulkhead/u" + strconv.Itoa(uid) + "/pids.max"}
	}
	if err := os.WriteFile(files[0], []byte("max"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.CLI("doctor", "--jail", b.Name)
	if out.Code == 0 || !strings.Contains(out.Stderr, "broken") || !strings.Contains(out.Stdout, "processes of the group") {
		t.Errorf("doctor --jail: exit %d, %s%s", out.Code, out.Stdout, out.Stderr)
	}
}

// owners counts the files in the pool that belong to each user but root.
func owners(t *testing.T, h *harness.Host) map[int]int {
	t.Helper()
	count := map[int]int{}
	err := filepath.WalkDir(filepath.Join(h.Dir, "pool"), func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if uid := int(fi.Sys().(*syscall.Stat_t).Uid); uid != 0 {
			count[uid]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
