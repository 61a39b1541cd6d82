package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A server that stands still for a second is seen by all requests that were due
// in it, although none of them is sent before it goes on.
func TestPaceCountsFromWhenRequestsWereDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := make(chan struct{}, 1) // a mutex that synctest sees
		got := pace{requests: 200, every: 10 * time.Millisecond}.send(func(i int) error {
			server <- struct{}{}
			defer func() { <-server }()
			if i == 50 {
				<-time.After(time.Second)
			}
			return nil
		})
		if got, want := got.within(1), time.Second; got != want {
			t.Errorf("slowest took %s, want %s", got, want)
		}
		// 100 of 200 were due meanwhile; half of those waited half a second.
		if got, want := got.within(0.75), 510*time.Millisecond; got != want {
			t.Errorf("three quarters took up to %s, want %s", got, want)
		}
		if got := got.within(0.49); got != 0 {
			t.Errorf("the others took %s", got)
		}
		if err := got.err(); err != nil {
			t.Error(err)
		}
	})
}

func TestPaceCountsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		got := pace{requests: 100, every: time.Millisecond}.send(func(i int) error {
			if i%10 == 0 {
				return refused
			}
			return nil
		})
		if got, want := len(got.failed), 10; got != want {
			t.Errorf("%d failed, want %d", got, want)
		}
		if err := got.err(); !errors.Is(err, refused) {
			t.Errorf("error is %v, want %v", err, refused)
		}
	})
}
