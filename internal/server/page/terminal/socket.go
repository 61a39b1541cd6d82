package terminal

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"bulkhead/internal/fault"
)

const (
	// maxInput bounds one message of a browser: what is pasted comes in pieces.
	maxInput = 64 << 10
	// typingLimit is how long a guest may take to take input. A program that does
	// not read its terminal loses what is typed then.
	typingLimit = 10 * time.Second
	// alive is how often a browser is asked whether it is still there.
	alive = 20 * time.Second
)

// note is what is said beside the output, as a text message.
type note struct {
	// From is the place in the output at which what follows begins. Fresh says
	// that it is another shell than the one that the browser has seen.
	From  int64 `json:"from"`
	Fresh bool  `json:"fresh,omitempty"`
	// Shell tells one shell from the next of the same name.
	Shell string `json:"shell,omitempty"`
	// Ended says how the shell ended, Error why it cannot be followed.
	Ended string `json:"ended,omitempty"`
	Error string `json:"error,omitempty"`
}

// Serve connects a browser to a shell of a sandbox, until either ends. The
// shell is named by the query parameter shell; seen and of say up to where of
// which shell the browser knows the output.
func (r *Room) Serve(w http.ResponseWriter, req *http.Request, sandbox string) error {
	q := req.URL.Query()
	name := q.Get("shell")
	if !isName(name) {
		return fault.New(fault.Invalid, "query parameter shell is not a name").Hint("names are 1 to 32 of a-z, 0-9 and -")
	}
	// Accept refuses pages of other hosts by their Origin.
	conn, err := websocket.Accept(w, req, nil)
	if err != nil {
		return nil // it has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxInput)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	size := Size{Cols: count(q.Get("cols"), 80), Rows: count(q.Get("rows"), 24)}
	shell, leave, err := r.Enter(ctx, sandbox, name, size)
	if err != nil {
		// By the socket, because a browser does not tell a page why it got none.
		if send(ctx, conn, note{Error: err.Error()}) == nil {
			conn.Close(websocket.StatusNormalClosure, "")
		}
		return nil
	}
	defer leave()
	seen := int64(-1)
	if q.Get("of") == shell.id {
		if n, err := strconv.ParseInt(q.Get("seen"), 10, 64); err == nil {
			seen = n
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer cancel()
		shell.listen(ctx, conn)
	}()
	if shell.show(ctx, conn, seen) == nil {
		conn.Close(websocket.StatusNormalClosure, "")
	}
	cancel()
	conn.CloseNow()
	<-read
	return nil
}

// show sends the output from a place on, then how it ended.
func (s *Shell) show(ctx context.Context, conn *websocket.Conn, seen int64) error {
	b, next, _, _ := s.news(seen)
	at := next - int64(len(b))
	if err := send(ctx, conn, note{From: at, Shell: s.id, Fresh: at != seen}); err != nil {
		return err
	}
	tick := time.NewTicker(alive)
	defer tick.Stop()
	for {
		b, next, grown, over := s.news(at)
		switch {
		case len(b) > 0:
			if err := s.pass(ctx, conn, b, next-int64(len(b)) != at); err != nil {
				return err
			}
			at = next
			continue
		case over:
			return send(ctx, conn, s.farewell(at))
		}
		var err error
		select {
		case <-grown:
		case <-tick.C:
			err = conn.Ping(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// pass sends a piece of output, and before it that there is a gap: the shell
// has printed faster than this browser reads.
func (s *Shell) pass(ctx context.Context, conn *websocket.Conn, b []byte, gap bool) error {
	if gap {
		if err := send(ctx, conn, note{Shell: s.id, Fresh: true}); err != nil {
			return err
		}
	}
	return conn.Write(ctx, websocket.MessageBinary, b)
}

func (s *Shell) farewell(at int64) note {
	status, err := s.end()
	last := note{From: at, Shell: s.id, Ended: status}
	if err != nil {
		last.Error = err.Error()
	}
	return last
}

func send(ctx context.Context, conn *websocket.Conn, n note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageText, b)
}

// listen types what a browser sends, until it leaves; what has come by then is
// typed still. What a shell that has ended does not take is lost.
func (s *Shell) listen(ctx context.Context, conn *websocket.Conn) {
	keys := make(chan []byte, 1)
	var typist sync.WaitGroup
	typist.Go(func() { s.typeAll(keys) })
	defer typist.Wait()
	defer close(keys)
	for {
		kind, b, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			select {
			case keys <- append(waiting(keys), b...):
			case <-ctx.Done():
			}
			continue
		}
		var size Size
		if json.Unmarshal(b, &size) == nil {
			_ = s.resize(ctx, size) // it has ended, or the next size comes through
		}
	}
}

// waiting takes back what is not being typed yet, to be typed with what has come
// now: a call to the guest takes longer than a key. What waits is bounded: if it
// is more than a message, whoever sends it waits.
func waiting(keys chan []byte) []byte {
	if len(keys) == 1 {
		select {
		case b := <-keys:
			if len(b) < maxInput {
				return b
			}
			keys <- b
		default:
		}
	}
	return nil
}

// typeAll types what comes, as long as the shell is followed.
func (s *Shell) typeAll(keys <-chan []byte) {
	for b := range keys {
		ctx, cancel := context.WithTimeout(s.life, typingLimit)
		_ = s.write(ctx, b) // it has ended, and that is told
		cancel()
	}
}

func isName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	const most = 32
	return s != "" && len(s) <= most
}

// count reads a number of characters.
func count(s string, otherwise uint32) uint32 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return otherwise
	}
	return uint32(n)
}
