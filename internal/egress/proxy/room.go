package proxy

import "sync"

const (
	// perConnection is how many descriptors one takes: a socket at each end, and
	// a pipe each way in which the kernel moves the bytes.
	perConnection = 2 + 2*2
	// modest is what a sandbox may take however little is left for all: a hundred
	// connections.
	modest = 100 * perConnection
)

// Room is how many file descriptors the connections of all sandboxes may take
// together, so that guests cannot take from the daemon what it needs for itself.
// The last quarter is for sandboxes that have taken little. It is safe for
// concurrent use.
type Room struct {
	most int

	mu    sync.Mutex
	taken int // guarded by mu
}

// NewRoom returns room for so many descriptors.
func NewRoom(most int) *Room { return &Room{most: most} }

// take takes n for a sandbox that has own already, if there is room.
func (r *Room) take(n, own int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := r.most
	if own+n > modest {
		most = most / 4 * 3
	}
	if r.taken+n > most {
		return false
	}
	r.taken += n
	return true
}

func (r *Room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken -= n
}
