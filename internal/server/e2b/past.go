package e2b

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/console"
	"bulkhead/internal/server/input"
)

// forever is every number that a time can be.
func forever() input.Range { return input.Range{Least: 0, Most: math.MaxInt32 * 1000} }

func (a *API) metrics(r *http.Request) (Reply, error) {
	start, err := input.Count(r, "start", 0, forever())
	if err != nil {
		return Reply{}, err
	}
	end, err := input.Count(r, "end", math.MaxInt32, forever())
	if err != nil {
		return Reply{}, err
	}
	if start > end {
		return Reply{}, fault.New(fault.Invalid, "start is after end")
	}
	s, err := a.look(r.Context(), r.PathValue("ref"))
	if err != nil {
		return Reply{}, err
	}
	all, err := a.Past.Samples(r.Context(), s.ID)
	within := []client.Metric{}
	for _, m := range all {
		if m.TimestampUnix >= start && m.TimestampUnix <= end {
			within = append(within, m)
		}
	}
	return ok(within), err
}

// latestMetrics answers with the latest of several sandboxes; those that are not
// there are left out.
func (a *API) latestMetrics(r *http.Request) (Reply, error) {
	ids := strings.Split(r.URL.Query().Get("sandbox_ids"), ",")
	if len(ids) > maxPage || ids[0] == "" {
		return Reply{}, fault.New(fault.Invalid, "query parameter sandbox_ids: want 1 to %d ids", maxPage)
	}
	every, err := a.Sandboxes.List(r.Context())
	if err != nil {
		return Reply{}, err
	}
	found := map[string]client.Metric{}
	for _, s := range every {
		if _, known := shown(s); !known || !slices.Contains(ids, s.ID) {
			continue
		}
		all, err := a.Past.Samples(r.Context(), s.ID)
		if err != nil {
			return Reply{}, err
		}
		if len(all) > 0 {
			found[s.ID] = all[len(all)-1]
		}
	}
	return ok(map[string]any{"sandboxes": found}), nil
}

// logEntry is one line of the log of a sandbox.
type logEntry struct {
	Timestamp time.Time         `json:"timestamp"`
	Message   string            `json:"message"`
	Level     string            `json:"level"`
	Fields    map[string]string `json:"fields"`
}

// maxLogs is how many lines there are in one answer.
const maxLogs = 1000

// logs are the events of a sandbox and the lines of its console. The console has
// no times of its own: its lines are as old as its file.
func (a *API) logs(r *http.Request) (Reply, error) {
	q, err := readLogQuery(r)
	if err != nil {
		return Reply{}, err
	}
	entries, err := a.entries(r, q)
	if q.backward {
		slices.Reverse(entries)
	}
	return ok(map[string]any{"logs": entries}), err
}

// logsFirst is of the first generation: both forms of each line.
func (a *API) logsFirst(r *http.Request) (Reply, error) {
	start, err := input.Count(r, "start", 0, forever())
	if err != nil {
		return Reply{}, err
	}
	limit, err := input.Count(r, "limit", maxLogs, input.Range{Most: maxLogs})
	if err != nil {
		return Reply{}, err
	}
	entries, err := a.entries(r, logQuery{from: time.UnixMilli(start), limit: int(limit), levels: levels()})
	type line struct {
		Timestamp time.Time `json:"timestamp"`
		Line      string    `json:"line"`
	}
	lines := []line{}
	for _, e := range entries {
		lines = append(lines, line{e.Timestamp, e.Message})
	}
	return ok(map[string]any{"logs": lines, "logEntries": entries}), err
}

// logQuery says which lines are meant.
type logQuery struct {
	// from and to are times; the zero time is no bound.
	from, to time.Time
	limit    int
	backward bool
	levels   []string
	search   string
}

// levels are those of lines, in order.
func levels() []string { return []string{"debug", "info", "warn", "error"} }

func readLogQuery(r *http.Request) (q logQuery, err error) {
	limit, err := input.Count(r, "limit", maxLogs, input.Range{Most: maxLogs})
	if err != nil {
		return q, err
	}
	q.limit = int(limit)
	direction, err := input.OneOf(r, "direction", "backward", "forward")
	if err != nil {
		return q, err
	}
	q.backward = direction == "backward"
	cursor, err := input.Count(r, "cursor", -1, forever())
	switch {
	case err != nil:
		return q, err
	case cursor >= 0 && q.backward:
		q.to = time.UnixMilli(cursor)
	case cursor >= 0:
		q.from = time.UnixMilli(cursor)
	}
	level, err := input.OneOf(r, "level", levels()...)
	if err != nil {
		return q, err
	}
	q.levels = levels()[slices.Index(levels(), level):]
	const most = 256
	if q.search = r.URL.Query().Get("search"); len(q.search) > most {
		return q, fault.New(fault.Invalid, "query parameter search is longer than %d bytes", most)
	}
	return q, nil
}

func (q logQuery) fits(e logEntry) bool {
	return !e.Timestamp.Before(q.from) && (q.to.IsZero() || !e.Timestamp.After(q.to)) &&
		slices.Contains(q.levels, e.Level) && strings.Contains(e.Message, q.search)
}

// entries returns the lines that are meant, oldest first: the last ones of too
// many when they are read backward, else the first ones.
func (a *API) entries(r *http.Request, q logQuery) ([]logEntry, error) {
	s, err := a.Sandboxes.Get(r.Context(), r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	found, err := a.eventLines(r.Context(), s.ID, q)
	if err != nil {
		return nil, err
	}
	console, err := a.consoleLines(r.Context(), s.ID)
	if err != nil {
		return nil, err
	}
	for _, e := range console {
		if q.fits(e) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b logEntry) int { return a.Timestamp.Compare(b.Timestamp) })
	if surplus := len(found) - q.limit; surplus > 0 {
		if q.backward {
			return found[surplus:], nil
		}
		return found[:q.limit], nil
	}
	return found, nil
}

// eventLines are the events of a sandbox: the latest ones of too many.
func (a *API) eventLines(ctx context.Context, id string, q logQuery) ([]logEntry, error) {
	found := []logEntry{}
	for e, err := range a.Past.Events(ctx, id) {
		if err != nil {
			return nil, err
		}
		line := logEntry{e.Time, e.Type, "info", map[string]string{"logger": "bulkhead"}}
		maps.Copy(line.Fields, e.Fields)
		if strings.HasSuffix(e.Type, "failed") || strings.HasSuffix(e.Type, "died") {
			line.Level = "error"
		}
		if !q.fits(line) {
			continue
		}
		if len(found) == 2*maxLogs {
			found = slices.Delete(found, 0, maxLogs)
		}
		found = append(found, line)
	}
	return found, nil
}

// consoleBytes is how much of a console is read: some thousand lines.
const consoleBytes = 128 << 10

// consoleLines are the last lines of a console as plain text: a guest chose them.
func (a *API) consoleLines(ctx context.Context, id string) ([]logEntry, error) {
	dir, err := a.Past.Console(ctx, id)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "console.log")
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for console: %w", err)
	}
	var text strings.Builder
	c := console.New(path, &text)
	defer c.Close()
	if err := c.CopyTail(consoleBytes); err != nil {
		return nil, err
	}
	var lines []logEntry
	for line := range strings.Lines(text.String()) {
		if line = strings.Map(printable, line); line != "" {
			lines = append(lines, logEntry{info.ModTime(), line, "info", map[string]string{"logger": "console"}})
		}
	}
	return lines[max(0, len(lines)-maxLogs):], nil
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}
