package ssh_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	server "bulkhead/internal/server/ssh"
)

func from(addr string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1234))
}

// So many may be about to log in, from one source and in all; who has failed
// often waits, and so does nobody else. A subscriber of IPv6 is one source.
func TestDoor(t *testing.T) {
	now := time.Unix(0, 0)
	d := server.NewDoor(func() time.Time { return now })
	var leave []func(bool)
	enter := func(addr string, want bool) {
		t.Helper()
		l, ok := d.Enter(from(addr))
		if ok != want {
			t.Fatalf("%s gets in: %v, want %v", addr, ok, want)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	for range 8 {
		enter("2001:db8::1", true)
	}
	enter("2001:db8::2", false)
	enter("2001:db8:0:1::1", true)
	for i := range 23 {
		enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String(), true)
	}
	enter("198.51.100.1", false) // 32 in all
	for _, l := range leave {
		l(true)
	}
	for range 20 {
		l, ok := d.Enter(from("198.51.100.1"))
		if !ok {
			t.Fatal("turned away too early")
		}
		l(false)
	}
	enter("198.51.100.1", false)
	enter("198.51.100.2", true)
	now = now.Add(time.Minute)
	enter("198.51.100.1", true)
}

// Somebody with many addresses cannot fill the log: what is left out is counted.
func TestTold(t *testing.T) {
	now := time.Unix(1000, 0)
	d := server.NewDoor(func() time.Time { return now })
	told := 0
	for range 100 {
		if ok, _ := d.Tell(); ok {
			told++
		}
	}
	now = now.Add(time.Minute)
	if ok, left := d.Tell(); told != 60 || !ok || left != 40 {
		t.Errorf("%d told, then %v with %d left out", told, ok, left)
	}
}
