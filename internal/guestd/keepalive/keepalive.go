// Package keepalive says how often a silent stream must show that it lives.
//
// Proxies between a client and the agent cut connections on which nothing
// moves; clients therefore ask for a sign of life. keepalive only reads the
// request's wish: what the sign looks like is each service's own message.
package keepalive

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// Default holds for requests without a wish.
	Default = 90 * time.Second
	// Max bounds the wish: rarer signs are none.
	Max = time.Hour
)

// Interval returns the silence after which a sign of life is due: the whole
// seconds of the header Keepalive-Ping-Interval, Default if there are none or
// they make no sense.
func Interval(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Keepalive-Ping-Interval"), 10, 31)
	if err != nil || n == 0 {
		return Default
	}
	return min(time.Duration(n)*time.Second, Max)
}
