package look

import (
	"slices"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/live"
)

// most is how many machines look into the past of one sandbox at once; a
// comparison takes two.
const most = 8

// Visitors are the sizes of the machines that look into snapshots, by sandbox. It
// is not safe for concurrent use.
type Visitors map[string][]live.Size

// Enter counts one more, until Leave. It is fault.Exhausted if there are too many.
func (v Visitors) Enter(sandbox string, size live.Size) error {
	if n := len(v[sandbox]); n >= most {
		return fault.New(fault.Exhausted, "%d snapshots of its sandbox are brought up already", n).
			Hint("wait until whoever looks into them has ended")
	}
	v[sandbox] = append(v[sandbox], size)
	return nil
}

// Leave forgets one of that size.
func (v Visitors) Leave(sandbox string, size live.Size) {
	if i := slices.Index(v[sandbox], size); i >= 0 {
		v[sandbox] = slices.Delete(v[sandbox], i, i+1)
	}
	if len(v[sandbox]) == 0 {
		delete(v, sandbox)
	}
}
