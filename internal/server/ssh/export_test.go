package ssh

import (
	"net"
	"time"
)

// Door is a doorman, for tests.
type Door struct{ *doorman }

// NewDoor returns one.
func NewDoor(clock func() time.Time) Door { return Door{newDoorman(clock)} }

// Enter is enter.
func (d Door) Enter(addr net.Addr) (leave func(in bool), ok bool) { return d.enter(addr) }

// Tell is tell.
func (d Door) Tell() (ok bool, left int) { return d.tell() }
