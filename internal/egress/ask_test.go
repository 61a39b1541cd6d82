package egress_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/egress"
	"bulkhead/internal/fault"
)

// outcome is what somebody who asked was told.
type outcome struct {
	allow bool
	words string
}

func TestAsk(t *testing.T) {
	ask := func(d egress.Desk, destination string, told *int) chan outcome {
		c := make(chan outcome, 1)
		go func() {
			allow, words := d.Ask(context.Background(), destination, func() { *told++ })
			c <- outcome{allow, words}
		}()
		synctest.Wait()
		return c
	}
	t.Run("all who wait get the answer, and one is told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, told := egress.NewDesk(time.Now), 0
			one, two := ask(d, "a:443", &told), ask(d, "a:443", &told)
			if q := d.Questions(); len(q) != 1 || q[0].Waiting != 2 || told != 1 {
				t.Errorf("pending %+v, told %d times", q, told)
			}
			if err := d.Answer("a:443", egress.Answer{Allow: true}); err != nil {
				t.Fatal(err)
			}
			for _, c := range []chan outcome{one, two} {
				if got := <-c; !got.allow {
					t.Errorf("told %+v", got)
				}
			}
			three := ask(d, "a:443", &told) // once is once
			if err := d.Answer("a:443", egress.Answer{}); err != nil {
				t.Fatal(err)
			}
			if got := <-three; got.allow || !strings.Contains(got.words, "rejected") {
				t.Errorf("told %+v", got)
			}
			if err := d.Answer("a:443", egress.Answer{}); !fault.Is(err, fault.NotFound) {
				t.Errorf("nobody waits: %v", err)
			}
		})
	})
	t.Run("an approval lasts as long as it says", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, told := egress.NewDesk(time.Now), 0
			c := ask(d, "a:443", &told)
			if err := d.Answer("a:443", egress.Answer{Allow: true, For: time.Hour}); err != nil {
				t.Fatal(err)
			}
			<-c
			if got := <-ask(d, "a:443", &told); !got.allow {
				t.Errorf("within the hour: %+v", got)
			}
			<-time.After(time.Hour)
			if got := <-ask(d, "a:443", &told); got.allow || told != 2 {
				t.Errorf("after the hour: %+v, told %d times", got, told)
			}
		})
	})
	t.Run("no answer is a refusal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, told := egress.NewDesk(time.Now), 0
			if got := <-ask(d, "a:443", &told); got.allow || !strings.Contains(got.words, "did not answer") {
				t.Errorf("told %+v", got)
			}
			if q := d.Questions(); len(q) != 0 {
				t.Errorf("still pending: %+v", q)
			}
		})
	})
	t.Run("too many questions are not asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, told := egress.NewDesk(time.Now), 0
			var all []chan outcome
			for i := range 60 {
				all = append(all, ask(d, fmt.Sprintf("n%d:443", i), &told))
			}
			if n := len(d.Questions()); n != 50 || told != 50 {
				t.Errorf("%d are pending, %d were told", n, told)
			}
			for _, c := range all {
				<-c
			}
		})
	})
}
