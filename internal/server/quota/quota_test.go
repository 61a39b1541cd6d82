package quota_test

import (
	"fmt"
	"testing"
	"time"

	"bulkhead/internal/server/quota"
)

func TestTake(t *testing.T) {
	now := time.Unix(0, 0)
	q := quota.New(10, func() time.Time { return now })
	for i := range 10 {
		if v := q.Take("a"); !v.OK || v.Limit != 10 || v.Remaining != 9-i || v.Reset != 1 {
			t.Fatalf("request %d: %+v", i+1, v)
		}
	}
	if v := q.Take("a"); v.OK || v.Remaining != 0 || v.RetryAfter != 1 || v.Reset != 1 {
		t.Errorf("one too many: %+v", v)
	}
	if v := q.Take("b"); !v.OK {
		t.Errorf("another: %+v", v)
	}
	now = now.Add(100 * time.Millisecond)
	if v := q.Take("a"); !v.OK {
		t.Errorf("a tenth of a second later: %+v", v)
	}
	now = now.Add(time.Hour)
	if v := q.Take("a"); !v.OK || v.Remaining != 9 {
		t.Errorf("after an hour: %+v, want no more than a second's worth", v)
	}
}

func TestNoLimit(t *testing.T) {
	for _, q := range []*quota.Quota{nil, quota.New(0, time.Now)} {
		for range 1000 {
			if v := q.Take("a"); !v.OK || v.Limit != 0 {
				t.Fatalf("%+v", v)
			}
		}
	}
}

// TestMemoryIsBounded asks as many different ones.
func TestMemoryIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	q := quota.New(10, func() time.Time { return now })
	for i := range 25_000 {
		now = now.Add(time.Second)
		q.Take(fmt.Sprint(i))
	}
	if got, most := q.Len(), 10_000; got > most {
		t.Errorf("%d buckets, want at most %d", got, most)
	}
}
