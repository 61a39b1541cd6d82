// Package sqlite is the host's database: one file in the state directory that
// says which sandboxes, templates and host resources there are.
//
// It stores rows and nothing else; what a row means is the business of whoever
// declares the store that this package implements. It is the only package that
// knows SQL. It must not know machines, pools or HTTP.
//
// Every write is one transaction and is on stable storage when it returns:
// synchronous=FULL costs one fsync of the log (0.1 ms on the reference
// machine), a sandbox has about ten writes in its life, and a record that
// comes before the thing it names must not be lost when the thing is not.
//
// A DB is safe for concurrent use. It has one connection: writers would wait
// for each other anyway, and each connection costs memory.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"bulkhead/internal/fault"

	modernc "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// cacheKiB bounds the page cache. All rows of a busy host fit into it.
const cacheKiB = 256

// DB is an open database.
type DB struct {
	sql *sql.DB
}

// Open opens the database at path, makes it (0600) if there is none, and
// brings its tables up to date. It refuses a file that is damaged
// (fault.Corrupt) or that a newer version has written (fault.Unsupported).
// The caller sees to it that no other daemon has it open.
func Open(ctx context.Context, path string) (_ *DB, err error) {
	// SQLite gives the log files the mode of the database.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	connector, err := modernc.NewConnector(source(path))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	if err := prepare(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, classify(err)), db.Close())
	}
	return &DB{sql: db}, nil
}

// source is what the driver is told: a write transaction takes its lock at
// once, and an operator who looks with another tool is waited for.
func source(path string) string {
	file := (&url.URL{Path: path}).EscapedPath()
	return fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)"+
		"&_pragma=synchronous(full)&_pragma=cache_size(-%d)&_pragma=temp_store(memory)", file, cacheKiB)
}

// Close ends the use of the database.
func (d *DB) Close() error {
	if err := d.sql.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// prepare checks the file and applies the migrations that it lacks.
func prepare(ctx context.Context, db *sql.DB) error {
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return corrupt(errors.New(strings.ReplaceAll(verdict, "\n", ": ")))
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	known := migrations()
	if version > len(known) {
		return fault.New(fault.Unsupported, "its version is %d, this release knows up to %d", version, len(known)).
			Hint("use the newer release that wrote it")
	}
	for ; version < len(known); version++ {
		if err := migrate(ctx, db, known[version], version+1); err != nil {
			return fmt.Errorf("update tables to version %d: %w", version+1, err)
		}
	}
	return nil
}

// migrate applies one migration, which leads to version, whole or not at all.
func migrate(ctx context.Context, db *sql.DB, migration string, version int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, migration+fmt.Sprintf(";\nPRAGMA user_version = %d", version))
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// exec runs one statement that returns no rows.
func (d *DB) exec(ctx context.Context, query string, args ...any) error {
	_, err := d.sql.ExecContext(ctx, query, args...)
	return classify(err)
}

// list runs a query and has scan read each row.
func list[T any](ctx context.Context, d *DB, query string, scan func(func(...any) error) (T, error)) (_ []T, err error) {
	rows, err := d.sql.QueryContext(ctx, query)
	if err != nil {
		return nil, classify(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []T
	for rows.Next() {
		row, err := scan(rows.Scan)
		if err != nil {
			return nil, classify(err)
		}
		all = append(all, row)
	}
	return all, classify(rows.Err())
}

// classify gives the errors that a user can do something about their kind.
func classify(err error) error {
	var e *modernc.Error
	if !errors.As(err, &e) {
		return err
	}
	// The low byte is the primary code; the rest tells variants apart.
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		return fault.New(fault.Exhausted, "no space left for the database: %w", err).
			Hint("free space in the state directory")
	case lib.SQLITE_BUSY:
		return fault.New(fault.Unavailable, "database is locked by another program: %w", err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return corrupt(err)
	}
	return err
}

func corrupt(err error) error {
	return fault.New(fault.Corrupt, "database is damaged: %w", err).
		Hint("restore the file from a backup, or move it away to start without records")
}

// isDuplicate reports whether err says that the column's value is taken:
// "constraint failed: UNIQUE constraint failed: sandboxes.name (2067)".
func isDuplicate(err error, column string) bool {
	var e *modernc.Error
	return errors.As(err, &e) && e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE && strings.Contains(e.Error(), column)
}

// nanos and fromNanos keep times as integers; 0 is the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
