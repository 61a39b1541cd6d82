// Package daemon puts the parts of the host daemon together: it alone knows
// all of them, and only cmd knows it.
//
// There is no logic here but the order of things. Up: the state directory's
// lock, the database, the event log, the pool, the driver, the heart with its
// recovery, the API. Down: the reverse; machines keep running, and the pool
// stays mounted under those that do.
package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"bulkhead/internal/audit"
	"bulkhead/internal/caution"
	"bulkhead/internal/config"
	"bulkhead/internal/daemon/front"
	"bulkhead/internal/daemon/store"
	"bulkhead/internal/doctor"
	"bulkhead/internal/durable"
	"bulkhead/internal/egress"
	"bulkhead/internal/fault"
	"bulkhead/internal/guest"
	"bulkhead/internal/image"
	"bulkhead/internal/inside"
	"bulkhead/internal/jail"
	"bulkhead/internal/journal"
	"bulkhead/internal/meter"
	"bulkhead/internal/pool"
	"bulkhead/internal/reclaim"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/sandbox/template"
	"bulkhead/internal/secret"
	"bulkhead/internal/server"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/local"
	"bulkhead/internal/server/metrics"
	"bulkhead/internal/server/token"
	"bulkhead/internal/sqlite"
	"bulkhead/internal/unwind"
	"bulkhead/internal/vmm/qemu"
	"bulkhead/internal/watchdog"
)

// shutdownLimit is how long requests under way may take to finish when the
// daemon is told to end.
const shutdownLimit = time.Minute

// Daemon is what a host daemon is made from.
type Daemon struct {
	Config config.Config
	// Version is the program's.
	Version string
	// Clock is the host's time; tests lend theirs.
	Clock func() time.Time
	// Out is the way out of the host for what sandboxes are allowed; nil is
	// the host's own. Tests lend theirs.
	Out egress.Out
	// Roots are what hosts that secrets go to are verified by; nil is what the
	// host trusts. Tests lend theirs.
	Roots *x509.CertPool
	// Ticks are when sandboxes are looked after; nil is every ten seconds. Tests
	// lend theirs.
	Ticks <-chan time.Time
	Log   *slog.Logger
}

// Run is the life of the daemon: it returns when ctx ends, or with the error
// that kept it from starting. Sandboxes outlive it.
func (d *Daemon) Run(ctx context.Context) (err error) {
	var down unwind.Stack
	defer func() { err = errors.Join(err, down.Run(ctx)) }()

	lock, err := journal.AcquireLock(d.Config.StateDir)
	if err != nil {
		return err
	}
	down.Add("release state directory", func(context.Context) error { return lock.Release() })

	db, err := sqlite.Open(ctx, filepath.Join(d.Config.StateDir, "bulkhead.db"))
	if err != nil {
		return err
	}
	down.Add("close database", func(context.Context) error { return db.Close() })

	events, err := audit.Open(audit.Options{Dir: filepath.Join(d.Config.StateDir, "events"), Clock: d.Clock})
	if err != nil {
		return err
	}
	down.Add("close event log", func(context.Context) error { return events.Close() })

	safe, err := d.openSafe(ctx, db)
	if err != nil {
		return err
	}
	files, err := d.openPool(ctx, db, safe.key)
	if err != nil {
		return err
	}
	down.Add("close pool", func(ctx context.Context) error { return d.closePool(ctx, files, db) })

	cages, err := d.jail()
	if err != nil {
		return err
	}
	var guests *heart // needs log and border itself
	counts := metrics.New(d.Version, measured{func() *heart { return guests }, files}, states())
	log := store.Events{
		Audit: events, Team: func(id string) (string, bool) { return guests.teamOf(id) }, Seen: counts.Happened, Log: d.Log,
	}
	border, err := d.perimeter(log, safe.vault, func() *heart { return guests })
	if err != nil {
		return err
	}
	heart, err := d.heart(parts{db, log, files, cages, border})
	if err != nil {
		return err
	}
	guests = heart
	down.Add("end requests under way", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
		defer cancel()
		err := heart.Close(ctx)
		heart.inside.Wait()
		return err
	})
	restarted, settle, err := hostRestarted(filepath.Join(d.Config.StateDir, "boot_id"))
	if err != nil {
		return err
	}
	if err := heart.Recover(ctx, restarted); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := settle(); err != nil {
		return err
	}
	works, err := d.works(ctx, heart, log.Append)
	if err != nil {
		return err
	}
	down.Add("end builds", func(context.Context) error { works.Close(); return nil })
	dog := &watchdog.Dog{Sandboxes: watched{heart, log}, Clock: d.Clock, Log: d.Log}
	stop := d.tend(ctx, tended{heart, border, log, safe.keys, &reclaim.Gauge{}, works.Shelf, d.Log}, dog, restarted)
	defer stop()
	return d.serve(ctx, &front.Front{
		Manager: heart.Manager, Tokens: safe.tokens, Metrics: counts, Templates: heart.templates, Works: works, Pool: files, Cages: cages, Border: border,
		Keys: safe.keys, Vault: safe.vault, Guard: heart.guard, Meter: heart.meter, Unhealthy: dog.Unhealthy, Events: log, Config: d.Config, Version: d.Version, Clock: d.Clock,
	})
}

// serve answers requests until ctx ends.
func (d *Daemon) serve(ctx context.Context, f *front.Front) error {
	p := d.page(f)
	defer p.Terminals.Close()
	a := &asker{}
	people, err := d.shells(f, a)
	if err != nil {
		return err
	}
	doors, err := d.doors(ctx, f, p.Sessions)
	if err != nil {
		return errors.Join(err, people.Close())
	}
	defer d.record(ctx, p)()
	opts := f.Options(d.Log)
	opts.SSH, opts.MCP, opts.More = people, d.tools(a), p.Routes()
	s := server.New(opts)
	a.api = local.New(s.Handler(known))
	f.Events.Append(ctx, "daemon.started", "", map[string]string{"version": d.Version})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- people.Serve(ctx) }()
	err = s.Serve(ctx, doors...)
	cancel()
	err = errors.Join(err, <-left, a.api.Close())
	f.Events.Append(ctx, "daemon.stopped", "", nil)
	d.Log.InfoContext(ctx, "daemon ends; sandboxes keep running")
	return err
}

func (d *Daemon) openPool(ctx context.Context, db *sqlite.DB, key []byte) (*pool.Pool, error) {
	cfg, err := d.poolConfig()
	if err != nil {
		return nil, err
	}
	cfg.Key = key
	j := journal.New(db.Journal())
	if _, err := j.Begin(ctx, journal.Entry{Kind: journal.Mount, Owner: poolOwner, Ident: cfg.Dir}); err != nil {
		return nil, err
	}
	return pool.Open(ctx, cfg)
}

// poolOwner is the pool's name in the journal.
const poolOwner = "pool"

func (d *Daemon) poolConfig() (pool.Config, error) {
	size, err := d.Config.PoolBytes()
	if err != nil {
		return pool.Config{}, err
	}
	return pool.Config{
		Dir: filepath.Join(d.Config.StateDir, "pool"), Image: filepath.Join(d.Config.StateDir, "pool.img"),
		Size: size, Log: d.Log,
	}, nil
}

// closePool unmounts the pool unless machines run on it.
func (d *Daemon) closePool(ctx context.Context, p *pool.Pool, db *sqlite.DB) error {
	err := p.Close(ctx)
	if fault.Is(err, fault.WrongState) {
		d.Log.InfoContext(ctx, "pool stays mounted: machines run on it")
		return nil
	}
	if err != nil {
		return err
	}
	return journal.New(db.Journal()).EndAll(ctx, journal.Mount, poolOwner)
}

// heart is the product without storage and wire.
type heart struct {
	*sandbox.Manager
	templates *template.Builder
	inside    *inside.Service
	guard     *caution.Guard
	meter     *meter.Meter
}

// teamOf is Team, and knows none before there is a heart.
func (h *heart) teamOf(id string) (string, bool) {
	if h == nil {
		return "", false
	}
	return h.Team(id)
}

// parts are what the heart is made from.
type parts struct {
	db     *sqlite.DB
	events store.Events
	files  *pool.Pool
	cages  *jail.Jail
	border *egress.Perimeter
}

// heart makes the heart from the parts that it knows as contracts.
func (d *Daemon) heart(p parts) (*heart, error) {
	accel, _, reason := doctor.Accelerator(d.Config.Accel)
	d.Log.Info("accelerator chosen", "accel", string(accel), "reason", reason)
	if err := os.MkdirAll(d.runDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	images, err := d.images()
	if err != nil {
		return nil, err
	}
	runner := &live.Runner{
		Driver: qemu.New(qemu.Config{Binary: d.Config.QEMU, Accel: accel, Jail: p.cages, Log: d.Log}),
		Pool:   p.files, Network: networks{p.border},
		Connect: func(ctx context.Context, conn net.Conn) (live.Guest, error) {
			return guest.Connect(ctx, conn, d.Clock)
		},
		Journal: store.Machines{Journal: journal.New(p.db.Journal())}, RunDir: d.runDir(), Clock: d.Clock, Log: d.Log,
	}
	prepared := template.New(template.Builder{
		Runner: runner, Store: store.Templates{Rows: p.db.Templates()}, Events: p.events,
		Images: images, Cache: d.Config.CacheDir, Most: d.Config.Limits.TeamTemplates,
	})
	manager := sandbox.New(sandbox.Parts{
		Machines: runner, Templates: prepared, Store: store.Records{Rows: p.db.Sandboxes()},
		Events: p.events, Limits: limits(d.Config.Limits), Clock: d.Clock, Log: d.Log,
	})
	h := &heart{
		Manager: manager, templates: prepared,
		inside: &inside.Service{Sandboxes: manager, Event: p.events.Append, Clock: d.Clock, Log: d.Log},
		guard:  &caution.Guard{Sandboxes: manager, Event: p.events.Append, Clock: d.Clock, Log: d.Log},
	}
	h.meter = &meter.Meter{Machines: metered{h}, Clock: d.Clock, Log: d.Log}
	return h, nil
}

// jail makes the jail that VMMs run in.
func (d *Daemon) jail() (*jail.Jail, error) {
	cages, err := jail.New(jail.Config{
		Dir: filepath.Join(d.Config.StateDir, "jail"), Leases: jail.DefaultLeases,
		FirstUID: d.Config.JailFirstUID, UIDs: d.Config.JailUIDs,
		Degraded: d.Config.Jail == "degraded", Log: d.Log,
	})
	if err != nil {
		return nil, err
	}
	for _, m := range cages.Degraded() {
		d.Log.Warn("the jail is degraded", "feature", m.Feature, "mend", m.Mend)
	}
	return cages, nil
}

// runDir holds one folder per machine that runs.
func (d *Daemon) runDir() string { return filepath.Join(d.Config.StateDir, "run") }

// safe is what the host keeps to itself, and what others get in by.
type safe struct {
	key    []byte
	vault  *secret.Vault
	keys   *auth.Keys
	tokens token.Seed
}

func (d *Daemon) openSafe(ctx context.Context, db *sqlite.DB) (s safe, err error) {
	if s.key, err = hostKey(filepath.Join(d.Config.StateDir, "host.key")); err != nil {
		return s, err
	}
	if s.vault, err = secret.Open(filepath.Join(d.Config.StateDir, "secrets.json"), s.key, d.Clock); err != nil {
		return s, err
	}
	if s.keys, err = auth.Open(ctx, store.Keys{Rows: db.Keys()}, d.Clock); err != nil {
		return s, err
	}
	s.tokens, err = token.New(s.key)
	return s, err
}

// hostKey reads the key that signs snapshots and seals secrets, and makes it the
// first time.
func hostKey(path string) ([]byte, error) {
	const size = 32 // of SHA-256, beyond which HMAC gains nothing (RFC 2104)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == size {
		return key, nil
	}
	if err == nil {
		return nil, fault.New(fault.Corrupt, "host key %s has %d bytes, want %d", path, len(key), size).
			Hint("restore it from a backup; without it no snapshot loads and no secret opens")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	key = make([]byte, size)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	if err := durable.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	return key, nil
}

// hostRestarted reports whether the host has booted since settle was called
// last; what ran then was ended by it. The first time it has not.
func hostRestarted(path string) (restarted bool, settle func() error, err error) {
	const current = "/proc/sys/kernel/random/boot_id" // Documentation/admin-guide/sysctl/kernel.rst
	now, err := os.ReadFile(current)
	if err != nil {
		return false, nil, fmt.Errorf("read the host's boot id: %w", err)
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, nil, fmt.Errorf("read the last boot id: %w", err)
	}
	return err == nil && !bytes.Equal(before, now), func() error { return durable.WriteFile(path, now, 0o600) }, nil
}

// Doctor checks this host with the daemon's settings.
func Doctor(c config.Config) []doctor.Check {
	o := doctor.Options{StateDir: c.StateDir, CacheDir: c.CacheDir, Accel: c.Accel}
	for _, t := range image.Tools() {
		o.Tools = append(o.Tools, doctor.Tool(t))
	}
	return append(doctor.Examine(doctor.Local(), o), sshChecks(c)...)
}
