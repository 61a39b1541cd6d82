// Package names answers the name questions of one sandbox, and keeps the
// stand-in addresses that it answers with.
//
// names must not know policies: it is told which names may be answered. A
// Table and a Server are safe for concurrent use.
package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// maxNames bounds a table: a guest chooses what is in it, and with each new
// name all of it is written down, at most 2 MiB.
const maxNames = 8192

// ErrFull is what Address returns when a table has no more room.
var ErrFull = errors.New("no stand-in address is left")

// first is the first stand-in, of 198.18.0.0/15 (RFC 2544).
func first() netip.Addr { return netip.MustParseAddr("198.18.0.1") }

// Table maps names to stand-ins, in the order of their first use, for good.
type Table struct {
	mu    sync.Mutex
	names []string       // by place; guarded by mu
	place map[string]int // guarded by mu
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{place: map[string]int{}} }

// Address returns a name's stand-in, and whether it is a new one.
func (t *Table) Address(name string) (a netip.Addr, added bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.place[name]
	if !ok {
		if i = len(t.names); i == maxNames {
			return netip.Addr{}, false, ErrFull
		}
		t.place[name] = i
		t.names = append(t.names, name)
	}
	return at(i), !ok, nil
}

// Has reports whether a name has a stand-in.
func (t *Table) Has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.place[name]
	return ok
}

func at(place int) netip.Addr {
	b := first().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n += uint32(place)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Name returns the name that a stand-in stands for.
func (t *Table) Name(a netip.Addr) (string, bool) {
	if !a.Is4() {
		return "", false
	}
	number := func(a netip.Addr) uint32 {
		b := a.As4()
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := int64(number(a)) - int64(number(first()))
	if i < 0 || i >= int64(len(t.names)) {
		return "", false
	}
	return t.names[i], true
}

// MarshalJSON writes the table down.
func (t *Table) MarshalJSON() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return json.Marshal(t.names)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Table) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return err
	}
	place := map[string]int{}
	for i, n := range names {
		if _, twice := place[n]; twice || n == "" || i >= maxNames {
			return fmt.Errorf("entry %d is wrong", i)
		}
		place[n] = i
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names, t.place = names, place
	return nil
}
