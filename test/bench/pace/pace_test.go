package pace_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/test/bench/pace"
)

// A server that stands still for a second is seen by all requests that were due
// in it, although none of them is sent before it goes on.
func TestPaceCountsFromWhenRequestsWereDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := make(chan struct{}, 1) // a mutex that synctest sees
		got := pace.Pace{Requests: 200, Every: 10 * time.Millisecond}.Send(func(i int) error {
			server <- struct{}{}
			defer func() { <-server }()
			if i == 50 {
				<-time.After(time.Second)
			}
			return nil
		})
		if got, want := got.Within(1), time.Second; got != want {
			t.Errorf("slowest took %s, want %s", got, want)
		}
		// 100 of 200 were due meanwhile; half of those waited half a second.
		if got, want := got.Within(0.75), 510*time.Millisecond; got != want {
			t.Errorf("three quarters took up to %s, want %s", got, want)
		}
		if got := got.Within(0.49); got != 0 {
			t.Errorf("the others took %s", got)
		}
		if err := got.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestPaceCountsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		got := pace.Pace{Requests: 100, Every: time.Millisecond}.Send(func(i int) error {
			if i%10 == 0 {
				return refused
			}
			return nil
		})
		if got, want := len(got.Failed), 10; got != want {
			t.Errorf("%d failed, want %d", got, want)
		}
		if err := got.Err(); !errors.Is(err, refused) {
			t.Errorf("error is %v, want %v", err, refused)
		}
	})
}
