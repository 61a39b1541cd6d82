package boot_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/internal/addressing"
	"bulkhead/internal/guestd/boot"
)

func TestJoinNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]string{
		"with a card":    "ip link add eth0 type veth peer name other && ip link set other up",
		"without a card": "true",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "sh", "-ec",
				"mount -t sysfs none /sys\n"+prepare+"\nexec \"$0\"", exe)
			cmd.Env = append(os.Environ(), roleKey+"=network")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// joined runs in a network of its own.
func joined() error {
	if err := errors.Join(boot.JoinNetwork(), boot.JoinNetwork()); err != nil {
		return err
	}
	card, err := net.InterfaceByName(addressing.Device)
	if err != nil {
		return nil // there is none, and that is no error
	}
	addresses, err := card.Addrs()
	want := fmt.Sprintf("%s/%d", addressing.Guest(), addressing.Link().Bits())
	if err != nil || len(addresses) != 1 || addresses[0].String() != want {
		return fmt.Errorf("addresses %v, error %v, want only %s", addresses, err, want)
	}
	out, err := exec.Command("ip", "route", "show", "default").Output()
	if want := "default via " + addressing.Gateway().String(); err != nil || !strings.HasPrefix(string(out), want) {
		return fmt.Errorf("route %q, error %v, want %q", out, err, want)
	}
	return nil
}
