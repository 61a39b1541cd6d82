// Package ask is the commands by which whoever works in a machine asks for its
// own timeline, a snapshot or a rollback.
//
// It speaks HTTP to the name under which the host answers (package inside of
// the host). What may be asked, and how often, is the host's to say.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

// URL is where a machine finds its own sandbox.
const URL = "http://bulkhead.internal"

const (
	// limit is how long an answer may take: a snapshot takes a fraction of a
	// second, on a busy host more.
	limit = 2 * time.Minute
	// maxAnswer bounds an answer: a timeline of some ten thousand snapshots.
	maxAnswer = 4 << 20
)

const usage = `usage: bulkhead-guest timeline            list the snapshots of this machine
       bulkhead-guest snapshot            take one
       bulkhead-guest rollback SNAPSHOT   put the whole machine back to one
`

// snapshot is one as the host says it.
type snapshot struct {
	ID     string    `json:"snapshotID"`
	Name   string    `json:"name"`
	Parent string    `json:"parent"`
	Cause  string    `json:"cause"`
	Taken  time.Time `json:"createdAt"`
}

// Client asks. Base is URL, but in tests.
type Client struct {
	Base     string
	Out, Err io.Writer
}

// Run runs the command that args are, and returns the exit status: 2 for one
// that is none.
func (c Client) Run(ctx context.Context, args []string) int {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var err error
	switch {
	case len(args) == 1 && args[0] == "timeline":
		err = c.timeline(ctx)
	case len(args) == 1 && args[0] == "snapshot":
		err = c.snapshot(ctx)
	case len(args) == 2 && args[0] == "rollback":
		err = c.rollback(ctx, args[1])
	default:
		fmt.Fprint(c.Err, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintln(c.Err, "bulkhead-guest:", err)
		return 1
	}
	return 0
}

func (c Client) timeline(ctx context.Context) error {
	var all []snapshot
	if err := c.call(ctx, "GET", "/timeline", nil, &all); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SNAPSHOT\tNAME\tTAKEN\tCAUSE")
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.ID, s.Name, s.Taken.Local().Format(time.DateTime), s.Cause)
	}
	return w.Flush()
}

func (c Client) snapshot(ctx context.Context) error {
	var s snapshot
	if err := c.call(ctx, "POST", "/snapshot", nil, &s); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.Out, s.ID)
	return err
}

// rollback begins one. If all goes well, nobody is there to read what it says.
func (c Client) rollback(ctx context.Context, to string) error {
	body, err := json.Marshal(map[string]string{"snapshot": to})
	if err != nil {
		return err
	}
	if err := c.call(ctx, "POST", "/rollback", body, &snapshot{}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Err, "the machine goes back to", to)
	return err
}

func (c Client) call(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s (%s)", strings.TrimSpace(string(text)), resp.Status)
	}
	return json.Unmarshal(text, answer)
}
