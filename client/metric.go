package client

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// Metric is what a machine was like at one moment, as its guest says.
type Metric struct {
	Timestamp     time.Time `json:"timestamp"`
	TimestampUnix int64     `json:"timestampUnix"`
	CPUCount      int       `json:"cpuCount"`
	// CPUUsedPct is the share of all its CPUs together since the moment before.
	CPUUsedPct float64 `json:"cpuUsedPct"`
	// The rest is bytes; MemUsed is without MemCache.
	MemUsed   int64 `json:"memUsed"`
	MemTotal  int64 `json:"memTotal"`
	MemCache  int64 `json:"memCache"`
	DiskUsed  int64 `json:"diskUsed"`
	DiskTotal int64 `json:"diskTotal"`
}

// Metrics returns what a machine was like between two times, oldest first; the
// zero times are the beginning and the end of what is remembered.
func (c *Client) Metrics(ctx context.Context, ref string, start, end time.Time) (all []Metric, err error) {
	q := url.Values{}
	for key, at := range map[string]time.Time{"start": start, "end": end} {
		if !at.IsZero() {
			q.Set(key, strconv.FormatInt(at.Unix(), 10))
		}
	}
	err = c.call(ctx, "GET", sandboxPath(ref, "metrics")+"?"+q.Encode(), nil, &all)
	return all, err
}
