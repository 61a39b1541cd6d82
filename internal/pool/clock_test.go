package pool

import "time"

// SetClock is for tests of what is remembered of files that have not changed.
func SetClock(p *Pool, now func() time.Time) { p.manifests.Now = now }
