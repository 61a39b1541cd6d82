package client

import (
	"context"
	"time"
)

// Overview is what all sandboxes do now, as the host knows it: no guest is asked
// for more than a list of what was started in it, and none is woken.
type Overview struct {
	// LastEvent is the number of the latest event.
	LastEvent uint64     `json:"lastEvent"`
	Sandboxes []Activity `json:"sandboxes"`
	// Pending are the destinations that wait for the operator.
	Pending []EgressQuestion `json:"pending"`
	Host    HostLoad         `json:"host"`
}

// HostLoad is what the host has and what of it is free.
type HostLoad struct {
	CPUs          int   `json:"cpus"`
	MemoryTotalMB int   `json:"memoryTotalMB"`
	MemoryFreeMB  int   `json:"memoryFreeMB"`
	PoolTotal     int64 `json:"poolTotal"`
	PoolFree      int64 `json:"poolFree"`
}

// Activity is a sandbox and what it does.
type Activity struct {
	Sandbox
	// CPUPercent is what its VMM takes of the host's CPUs, 100 for one of them.
	CPUPercent float64 `json:"cpuPercent"`
	// Doing are the commands that were started from outside and run, the newest
	// first. They are the guest's word.
	Doing []string `json:"doing"`
	// Hour is the load of each of the last 60 minutes, the latest last.
	Hour []Load `json:"hour"`
	// LastSnapshot is the newest one; nil if there is none.
	LastSnapshot *SnapshotMark `json:"lastSnapshot,omitempty"`
	// Allowed and Denied count connections, and what was refused, since the
	// daemon was started.
	Allowed int `json:"allowed"`
	Denied  int `json:"denied"`
}

// SnapshotMark is a snapshot without what it takes time to find out.
type SnapshotMark struct {
	ID        string    `json:"snapshotID"`
	Name      string    `json:"name,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	Cause     string    `json:"cause"`
}

// Load is what a sandbox took in one minute: the highest that was seen.
type Load struct {
	CPUPercent float64 `json:"cpuPercent"`
	MemoryMB   int     `json:"memoryMB"`
}

// Overview returns what all sandboxes do now.
func (c *Client) Overview(ctx context.Context) (o Overview, err error) {
	err = c.call(ctx, "GET", "/overview", nil, &o)
	return o, err
}
