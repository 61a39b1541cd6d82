package keepalive_test

import (
	"net/http"
	"testing"
	"time"

	"bulkhead/internal/guestd/keepalive"
)

func TestInterval(t *testing.T) {
	for _, test := range []struct {
		name, header string
		want         time.Duration
	}{
		{"seconds as asked", "50", 50 * time.Second},
		{"default without a wish", "", keepalive.Default},
		{"default for none at all", "0", keepalive.Default},
		{"default for less than none", "-1", keepalive.Default},
		{"default for words", "often", keepalive.Default},
		{"default for a number beyond all", "99999999999999999999", keepalive.Default},
		{"at most the longest", "2000000000", keepalive.Max},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := keepalive.Interval(http.Header{"Keepalive-Ping-Interval": {test.header}}); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
