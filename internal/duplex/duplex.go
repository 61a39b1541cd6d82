// Package duplex carries a connection in one HTTP request: what is sent is the
// request's body, what comes back is the answer's. The sender's end is passed
// on, and the answer goes on after it; the answer's end is the connection's, as
// HTTP/1 cannot tell it sooner. A connection that is cut is an answer that is
// cut.
//
// duplex must not know who connects to what.
package duplex

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Conn is a connection whose directions end on their own, like *net.TCPConn.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Prepare comes before whatever can fail and be answered: without it an answer
// waits until all was sent.
func Prepare(w http.ResponseWriter) error {
	// What was not read of the body is in the way of another request.
	w.Header().Set("Connection", "close")
	return http.NewResponseController(w).EnableFullDuplex()
}

// Serve carries conn in a request until what it sends has ended, or either
// direction was cut, and closes it. Prepare came before. An error means that the
// answer must not end well: whoever serves ends it with http.ErrAbortHandler.
func Serve(w http.ResponseWriter, r *http.Request, conn Conn) error {
	defer conn.Close()
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	stop := context.AfterFunc(r.Context(), func() { conn.Close() })
	defer stop()
	var up sync.WaitGroup
	defer up.Wait()
	up.Go(func() {
		if _, err := io.Copy(conn, r.Body); err != nil {
			conn.Close() // cut, not ended
			return
		}
		_ = conn.CloseWrite() // whoever is gone has been told
	})
	_, err := io.Copy(flushed{w, control}, conn)
	// The sender may be silent: it is not waited for.
	return errors.Join(err, control.SetReadDeadline(time.Unix(1, 0)))
}

// flushed sends every piece at once.
type flushed struct {
	io.Writer
	control *http.ResponseController
}

// Write implements io.Writer.
func (f flushed) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}
