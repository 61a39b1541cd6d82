package machine

import (
	"context"
	"os"

	"bulkhead/proto/machine"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// vitalFiles are what next to nothing can be done without.
func vitalFiles() []string { return []string{"/bin/sh", "/etc/passwd"} }

// health is what the machine had when it was well.
type health struct {
	files    []string
	writable bool
}

// examine returns what a machine that works has.
func examine() health {
	h := health{writable: rootWritable()}
	for _, path := range vitalFiles() {
		if _, err := os.Stat(path); err == nil {
			h.files = append(h.files, path)
		}
	}
	return h
}

// ailment says what the machine has no more; "" if it has all. It starts no
// program: a machine at rest stays at rest.
func (h health) ailment() string {
	for _, path := range h.files {
		if _, err := os.Stat(path); err != nil {
			return path + " is gone"
		}
	}
	if h.writable && !rootWritable() {
		return "the disk has become read-only"
	}
	return ""
}

func rootWritable() bool {
	var fs unix.Statfs_t
	return unix.Statfs("/", &fs) == nil && fs.Flags&unix.ST_RDONLY == 0
}

// Pulse implements the call of that name.
func (s *Service) Pulse(context.Context, *connect.Request[machine.PulseRequest]) (*connect.Response[machine.PulseResponse], error) {
	return connect.NewResponse(&machine.PulseResponse{Ailment: s.health.ailment()}), nil
}
