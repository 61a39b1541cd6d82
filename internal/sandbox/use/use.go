// Package use counts what is asked of a machine: how often, and what of it goes
// on. A machine that is used is not idle.
//
// It knows no machine. A Count is safe for concurrent use; the zero one is
// ready.
package use

import (
	"io"
	"sync"
	"sync/atomic"
)

// Count is how a machine is used.
type Count struct{ asked, open atomic.Int64 }

// Asked is how often it was used so far.
func (c *Count) Asked() int64 { return c.asked.Load() }

// Open is how many uses go on.
func (c *Count) Open() int64 { return c.open.Load() }

// Begin counts a use, which goes on until done. Repeating that is no error.
func (c *Count) Begin() (done func()) {
	c.asked.Add(1)
	c.open.Add(1)
	return sync.OnceFunc(func() { c.open.Add(-1) })
}

// Until returns body, which calls done when it is closed.
func Until(body io.ReadCloser, done func()) io.ReadCloser { return &used{body, done} }

// used is an answer that is being read.
type used struct {
	io.ReadCloser
	done func()
}

func (u *used) Close() error {
	u.done()
	return u.ReadCloser.Close()
}
