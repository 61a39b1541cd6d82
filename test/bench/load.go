package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"bulkhead/client"
	"bulkhead/client/remote"
	"bulkhead/internal/reclaim"
	"bulkhead/test/bench/idle"
	"bulkhead/test/bench/pace"
	"bulkhead/test/harness"
)

const (
	// crew is how many sandboxes run beside the load.
	crew = 8
	// readsPerSecond are sent for loadTime.
	readsPerSecond = 200
	loadTime       = time.Minute
	// slowest is what all but one read in a hundred have to stay below. A host on
	// which a server that does nothing needs half of that is too busy to tell.
	slowest = 50 * time.Millisecond
	// tries is how often a quiet minute is waited for.
	tries = 3
	// readTimeout turns a read that is not answered into a failure.
	readTimeout = 10 * time.Second
)

// reads are what clients ask for while they look on, of one sandbox where {id}
// stands. GET /metrics is for one scraper in fifteen seconds, so not among them.
var reads = []string{
	"/health", "/version", "/sandboxes", "/v2/sandboxes?limit=3", "/v2/sandboxes?limit=3&nextToken={next}",
	"/sandboxes/{id}", "/sandboxes/{id}/timeline", "/sandboxes/{id}/egress", "/sandboxes/{id}/blast-radius",
	"/sandboxes/{id}/metrics", "/sandboxes/metrics?sandbox_ids={id}", "/v2/sandboxes/{id}/logs?limit=20",
	"/snapshots?limit=5", "/events?sandbox={id}", "/templates", "/v2/templates", "/egress/pending", "/ssh",
}

// gated is the daemon by its door for programs.
type gated struct {
	url, key string
	client   *client.Client
	// ids are of the crew.
	ids []string
	// alone is what the daemon had of memory before the crew was there.
	alone int64
}

// load has programs read and run through the door for them, beside a crew of
// sandboxes that run, and removes those.
func (b *bench) load(ctx context.Context) error {
	g, err := b.gated(ctx)
	if err != nil {
		return err
	}
	if err := b.readsRow(ctx, g); err != nil {
		return err
	}
	return b.streams(ctx, g)
}

// gated makes a key and the crew, each of which has a snapshot.
func (b *bench) gated(ctx context.Context) (g gated, err error) {
	at := regexp.MustCompile(`url=(http://\S+)`).FindStringSubmatch(b.host.LogTail(1 << 30))
	if at == nil {
		return g, errors.New("the daemon does not say where it listens")
	}
	key, err := b.client.CreateKey(ctx, client.KeyRequest{Name: "load", Scope: "operate"})
	if err != nil {
		return g, err
	}
	g.url, g.key = at[1], key.Value
	if g.client, err = remote.Dial(remote.Host{URL: g.url, Key: g.key}); err != nil {
		return g, err
	}
	if g.alone, err = harness.Resident(b.host.DaemonPID()); err != nil {
		return g, err
	}
	for range crew {
		s, err := b.client.Create(ctx, client.CreateRequest{TemplateID: "base"})
		if err != nil {
			return g, err
		}
		if _, err := b.client.Snapshot(ctx, s.ID, client.SnapshotRequest{}); err != nil {
			return g, err
		}
		g.ids = append(g.ids, s.ID)
	}
	return g, nil
}

// readsRow compares reads at a steady pace with as many of a server that does
// nothing but answer with as many bytes: half of those before, half after.
func (b *bench) readsRow(ctx context.Context, g gated) error {
	other, err := idle.Start(ctx)
	if err != nil {
		return err
	}
	defer other.Stop()
	asked, err := g.questions(ctx)
	if err != nil {
		return err
	}
	alike := asked.alike(other.URL)
	var r round
	for try := 1; ; try++ {
		if r, err = b.readsRound(ctx, asked, alike, other.PID()); err != nil {
			return err
		}
		if r.hand.Within(0.99) < slowest/2 || try == tries {
			break
		}
		fmt.Printf("  (load average %s: p99 %.1f ms, and %.1f ms for a server that does nothing; once more)\n",
			r.used.busy, ms(r.ours.Within(0.99)), ms(r.hand.Within(0.99)))
	}
	b.print(comparison{fmt.Sprintf("%d reads a second beside %d, p99", readsPerSecond, crew), r.ours.Within(0.99), r.hand.Within(0.99),
		slowest, "50 ms (by hand: as many bytes and no more)"})
	fmt.Printf("  p50 %.1f ms, slowest of %d %.1f ms (by hand %.1f and %.1f); %.2f ms of a processor each (by hand %.2f); load average %s\n",
		ms(r.ours.Within(0.5)), len(r.ours.Took), ms(r.ours.Within(1)), ms(r.hand.Within(0.5)), ms(r.hand.Within(1)),
		ms(r.spent)/float64(len(r.ours.Took)), ms(r.spentByHand)/float64(len(r.hand.Took)), r.used.busy)
	b.printMemory("daemon's memory meanwhile", g.alone, r.used.most)
	return nil
}

// round is a minute of reads from the daemon, and one from a server of package
// idle around it.
type round struct {
	ours, hand pace.Answers
	// spent is what the processes had of the processors: that depends least on
	// who else is at work.
	spent, spentByHand time.Duration
	used               watched
}

func (b *bench) readsRound(ctx context.Context, asked, alike questions, idlePID int) (r round, err error) {
	before, first, err := alike.sendTo(ctx, idlePID, loadTime/2)
	if err != nil {
		return r, err
	}
	watch := b.watch(ctx)
	if r.ours, r.spent, err = asked.sendTo(ctx, b.host.DaemonPID(), loadTime); err != nil {
		return r, err
	}
	if r.used, err = watch(); err != nil {
		return r, err
	}
	after, second, err := alike.sendTo(ctx, idlePID, loadTime/2)
	r.hand, r.spentByHand = before.And(after), first+second
	return r, err
}

// printMemory is the row of the daemon's memory beside the crew.
func (b *bench) printMemory(what string, alone, most int64) {
	const mib = 1 << 20
	verdict := ""
	if most > (40+crew)*mib {
		verdict = "  MISSED"
		b.missed++
	}
	fmt.Printf("%-46s %6.1f MiB, %.1f MiB before  40 MiB + 1 MiB each%s\n", what, float64(most)/mib, float64(alone)/mib, verdict)
}

// watched is what the host was like meanwhile.
type watched struct {
	// most is the largest that the daemon's memory was, in bytes.
	most int64
	// busy is the load average of the last minute.
	busy string
}

// watch looks at the daemon until its result is called.
func (b *bench) watch(ctx context.Context) func() (watched, error) {
	ctx, cancel := context.WithCancel(ctx)
	var w watched
	var failed error
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil && failed == nil {
			now, err := harness.Resident(b.host.DaemonPID())
			w.most, failed = max(w.most, now), err
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() (watched, error) {
		cancel()
		looking.Wait()
		load, err := os.ReadFile("/proc/loadavg")
		w.busy, _, _ = strings.Cut(string(load), " ")
		return w, errors.Join(failed, err)
	}
}

// questions are reads in turns, with how long an answer to each was.
type questions struct {
	client *http.Client
	base   string
	key    string
	paths  []string
	sizes  []int64
}

// questions asks everything once, so that what is wrong is seen at once.
func (g gated) questions(ctx context.Context) (questions, error) {
	q := questions{client: pooled(), base: g.url, key: g.key}
	next, err := q.next(ctx)
	if err != nil {
		return q, err
	}
	for _, id := range g.ids {
		for _, path := range reads {
			q.paths = append(q.paths, strings.NewReplacer("{id}", id, "{next}", next).Replace(path))
		}
	}
	for _, path := range q.paths {
		n, err := q.get(ctx, path)
		if err != nil {
			return q, err
		}
		q.sizes = append(q.sizes, n)
	}
	return q, nil
}

func pooled() *http.Client {
	return &http.Client{Timeout: readTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: readsPerSecond, DisableCompression: true}}
}

// alike are questions to a server of package idle, whose answers are as long.
func (q questions) alike(url string) questions {
	other := questions{client: pooled(), base: url, key: q.key}
	for _, n := range q.sizes {
		other.paths = append(other.paths, fmt.Sprintf("/%d", n))
	}
	return other
}

// next is the token of the second page of a list.
func (q questions) next(ctx context.Context) (string, error) {
	resp, err := q.ask(ctx, "/v2/sandboxes?limit=3")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	next := resp.Header.Get("X-Next-Token")
	if next == "" {
		return "", errors.New("the list has no second page")
	}
	return next, nil
}

func (q questions) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", q.key)
	return q.client.Do(req)
}

// get reads one answer and says how long it was.
func (q questions) get(ctx context.Context, path string) (int64, error) {
	resp, err := q.ask(ctx, path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return n, err
}

// sendTo asks a process for so long, and says what it had of the processors
// meanwhile. A wrong answer is an error.
func (q questions) sendTo(ctx context.Context, pid int, d time.Duration) (a pace.Answers, spent time.Duration, err error) {
	p := pace.Pace{Requests: int(d.Seconds() * readsPerSecond), Every: time.Second / readsPerSecond}
	defer q.client.CloseIdleConnections()
	before, err := reclaim.ProcessorTime(pid)
	if err != nil {
		return a, 0, err
	}
	a = p.Send(func(i int) error {
		_, err := q.get(ctx, q.paths[i%len(q.paths)])
		return err
	})
	if err := a.Err(); err != nil {
		return a, 0, fmt.Errorf("%d of %d answers of %s are wrong: %w", len(a.Failed), len(a.Took), q.base, err)
	}
	after, err := reclaim.ProcessorTime(pid)
	return a, after - before, err
}
