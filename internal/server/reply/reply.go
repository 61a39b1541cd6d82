// Package reply is how the API answers: in JSON, with errors in one form, and
// with the id of the request in all of it.
//
// How much of an error is told depends on who is asking (package auth): the
// operator sees its whole chain; to others an internal error is an internal
// error, which its request id finds in the log.
//
// reply must not know what is served. Its functions may be called from anywhere.
package reply

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// patience is how long an answer may take to be taken. What is held for somebody who
// reads nothing is somebody else's memory.
const patience = time.Minute

// JSON answers with a value. There is nobody to tell if the client is gone.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of package client come here
	}
	// A recorder of tests has no connection, and so no deadline; the server lifts it
	// before the next request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// Answer remembers whether an answer has begun. http.ResponseController
// reaches the connection through Unwrap.
type Answer struct {
	http.ResponseWriter
	// Status is 0 until then.
	Status int
	// Route is what is asked for, one of the few things that can be, and Op the
	// same for the log, which may say more.
	Route, Op string
}

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.Status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.Status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(b []byte) (int, error) {
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func begun(w http.ResponseWriter) bool {
	a, ok := w.(*Answer)
	return ok && a.Status != 0
}

type requestKey struct{}

// Identify gives a request an id, which goes back as X-Request-Id.
func Identify(w http.ResponseWriter, r *http.Request) *http.Request {
	b := make([]byte, 8)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	id := hex.EncodeToString(b)
	w.Header().Set("X-Request-Id", id)
	return r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
}

// RequestID is the id of the request that a context is of.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Op names what a request asks for: its route, or its path to a guest.
func Op(r *http.Request) string {
	if r.Pattern != "" {
		return r.Pattern
	}
	const most = 128
	path := r.URL.Path
	if len(path) > most {
		path = strings.ToValidUTF8(path[:most], "") + "..."
	}
	return r.Method + " " + path
}
