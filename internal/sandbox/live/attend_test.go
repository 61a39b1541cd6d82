package live_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/sandbox/live"
)

// agent answers requests, and whether it lives, as its fields say.
type agent struct {
	fakeGuest
	answer, health func(context.Context) (*http.Response, error)
}

func (a agent) Transport() http.RoundTripper { return a }

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/health" {
		return a.health(r.Context())
	}
	return a.answer(r.Context())
}

func nothing(ctx context.Context) (*http.Response, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// after answers once d has passed.
func after(d time.Duration, r *http.Response) func(context.Context) (*http.Response, error) {
	return func(ctx context.Context) (*http.Response, error) {
		select {
		case <-time.After(d):
			return r, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestAttended(t *testing.T) {
	const never, always = 365 * 24 * time.Hour, 0
	ok := &http.Response{StatusCode: 200}
	for _, tt := range []struct {
		name   string
		answer func(context.Context) (*http.Response, error)
		// From when on the agent gives signs of life, and until when the
		// machine is held.
		lives, held time.Duration
		want        error
	}{
		{"an answer arrives", after(0, ok), never, 0, nil},
		{"an agent that lives may take long", after(time.Hour, ok), always, 0, nil},
		{"a held machine may take long", after(time.Hour, ok), 50 * time.Minute, 50 * time.Minute, nil},
		{"a silent agent is given up", nothing, never, 0, live.ErrSilent},
		{"one that stays silent after it was held is given up", nothing, never, time.Hour, live.ErrSilent},
		{"a refusal is passed on", func(context.Context) (*http.Response, error) { return nil, io.ErrClosedPipe }, never, 0, io.ErrClosedPipe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				g := agent{answer: tt.answer, health: func(ctx context.Context) (*http.Response, error) {
					return after(tt.lives-time.Since(began), &http.Response{Body: http.NoBody})(ctx)
				}}
				var held atomic.Bool
				held.Store(tt.held > 0)
				time.AfterFunc(tt.held, func() { held.Store(false) })
				got, err := ask(t.Context(), t, live.Attend(g, held.Load))
				if !errors.Is(err, tt.want) || (err == nil) != (got == ok) {
					t.Errorf("answer %v, error %v, want error %v", got, err, tt.want)
				}
			})
		})
	}
}

func ask(ctx context.Context, t *testing.T, by http.RoundTripper) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/process.Process/Start", nil)
	if err != nil {
		t.Fatal(err)
	}
	return by.RoundTrip(r)
}

// Once an answer has begun, nobody asks for signs of life.
func TestQuietStreamIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		g := agent{health: nothing, answer: func(ctx context.Context) (*http.Response, error) {
			context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
			return &http.Response{Body: r}, nil
		}}
		resp, err := ask(t.Context(), t, live.Attend(g, func() bool { return false }))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-time.After(24 * time.Hour) // of the bubble
			io.WriteString(w, "at last")
			w.Close()
		}()
		if got, err := io.ReadAll(resp.Body); string(got) != "at last" || err != nil {
			t.Errorf("stream said %q, %v", got, err)
		}
	})
}

func TestAttendedEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := agent{health: nothing, answer: nothing}
		_, err := ask(ctx, t, live.Attend(g, func() bool { return false }))
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "agent") {
			t.Errorf("error = %v, want the caller's", err)
		}
	})
}
