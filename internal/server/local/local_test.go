package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"bulkhead/client"
	"bulkhead/internal/duplex"
	"bulkhead/internal/server/local"
	"bulkhead/test/leak"
)

type whoKey struct{}

// as says who is asking.
func as(who string) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context { return context.WithValue(ctx, whoKey{}, who) }
}

// Each client asks as who it was made for, whatever it sends; both directions
// flow at once; and nothing is left of those that are cut.
func TestAPI(t *testing.T) {
	leak.Check(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(whoKey{}).(string)
		io.WriteString(w, `{"version": "`+who+`"}`)
	})
	mux.HandleFunc("POST /sandboxes/{ref}/ports/7", func(w http.ResponseWriter, r *http.Request) {
		if err := duplex.Prepare(w); err != nil {
			t.Error(err)
		}
		http.NewResponseController(w).Flush()
		io.Copy(w, io.TeeReader(r.Body, flusher{w}))
	})
	hung := make(chan bool)
	mux.HandleFunc("GET /health", func(_ http.ResponseWriter, r *http.Request) {
		hung <- true
		<-r.Context().Done()
	})
	api := local.New(mux)
	anna, bert := api.As(as("anna")), api.As(as("bert"))
	defer anna.Close()
	defer bert.Close()
	for range 2 {
		for want, c := range map[string]*client.Client{"anna": anna, "bert": bert} {
			if i, err := c.Info(t.Context()); err != nil || i.Version != want {
				t.Errorf("got %q, %v, want %q", i.Version, err, want)
			}
		}
	}
	var back bytes.Buffer
	long := strings.Repeat("x", 1<<20)
	if err := anna.Port(t.Context(), "otter", 7, strings.NewReader(long), &back); err != nil || back.String() != long {
		t.Errorf("%d bytes came back of %d, %v", back.Len(), len(long), err)
	}
	failed := make(chan error, 1)
	go func() { failed <- bert.Health(t.Context()) }()
	<-hung
	if err := api.Close(); err != nil {
		t.Error(err)
	}
	var e *client.Error
	if err := <-failed; !errors.As(err, &e) {
		t.Errorf("what was cut says %v", err)
	}
	if _, err := anna.Info(t.Context()); err == nil {
		t.Error("it answers after its end")
	}
}

// flusher sends what it is told on at once.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) { return len(p), http.NewResponseController(f.w).Flush() }
