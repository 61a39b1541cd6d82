package lately_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/lately"
)

// asked is a cache with a clock that is set, and how often was found out.
type asked struct {
	lately.Cache[string, int]
	now   time.Time
	times int
}

func newAsked() *asked {
	a := &asked{now: time.Unix(1e9, 0)}
	a.Now = func() time.Time { return a.now }
	return a
}

func (a *asked) find(context.Context) (int, error) {
	a.times++
	return a.times, nil
}

func (a *asked) want(t *testing.T, key string, want int) {
	t.Helper()
	got, err := a.Of(t.Context(), key, a.find)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s is %d, want %d", key, got, want)
	}
}

func TestValueIsGoodForAWhile(t *testing.T) {
	a := newAsked()
	a.want(t, "a", 1)
	a.now = a.now.Add(lately.Good - 1)
	a.want(t, "a", 1)
	a.want(t, "b", 2)
	a.now = a.now.Add(1)
	a.want(t, "a", 3)
	a.want(t, "b", 2)
}

func TestErrorIsNotRemembered(t *testing.T) {
	a, bad := newAsked(), errors.New("bad")
	if _, err := a.Of(t.Context(), "a", func(context.Context) (int, error) { return 0, bad }); !errors.Is(err, bad) {
		t.Errorf("got %v, want %v", err, bad)
	}
	a.want(t, "a", 1)
}

// slowly has a value found out that is good no more, and calls do meanwhile.
func (a *asked) slowly(t *testing.T, do func()) {
	t.Helper()
	found, going := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(found)
	all.Go(func() {
		got, err := a.Of(t.Context(), "a", func(context.Context) (int, error) {
			close(going)
			<-found
			return 100, nil
		})
		if got != 100 || err != nil {
			t.Errorf("who found out got %d, %v", got, err)
		}
	})
	<-going
	do()
}

func TestOldValueIsGivenWhileANewOneIsFound(t *testing.T) {
	a := newAsked()
	a.want(t, "a", 1)
	a.now = a.now.Add(2*lately.Good - 1)
	a.slowly(t, func() { a.want(t, "a", 1) })
	a.want(t, "a", 100)
}

func TestWithoutAValueEverybodyWaitsForOne(t *testing.T) {
	a := newAsked()
	var all sync.WaitGroup
	a.slowly(t, func() {
		for range 10 {
			all.Go(func() { a.want(t, "a", 100) })
		}
	})
	all.Wait()
}

func TestMemoryIsBounded(t *testing.T) {
	var c lately.Cache[int, int]
	for i := range 10_000 {
		if _, err := c.Of(t.Context(), i, func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if got, most := c.Len(), 4096; got > most {
		t.Errorf("%d values are kept, want %d at most", got, most)
	}
}
