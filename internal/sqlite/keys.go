package sqlite

import (
	"context"
	"fmt"
	"time"
)

// KeyRow is what is stored of a key, which is not its value.
type KeyRow struct {
	// Name is the key, and Hash is unique too.
	Name                 string
	Hash                 []byte
	Team, Scope, Sandbox string
	// Times keep nanoseconds and come back in UTC; the zero time stays zero.
	Created, Expires, Used time.Time
}

// Keys is the table of keys.
type Keys struct{ db *DB }

// Keys returns the table of keys.
func (d *DB) Keys() Keys { return Keys{d} }

// Save stores r, replacing the row of the same name.
func (k Keys) Save(ctx context.Context, r KeyRow) error {
	err := k.db.exec(ctx, `INSERT INTO keys (name, hash, team, scope, sandbox, created, expires, used)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, team = excluded.team, scope = excluded.scope,
		sandbox = excluded.sandbox, created = excluded.created, expires = excluded.expires, used = excluded.used`,
		r.Name, r.Hash, r.Team, r.Scope, r.Sandbox, nanos(r.Created), nanos(r.Expires), nanos(r.Used))
	if err != nil {
		return fmt.Errorf("save key %s: %w", r.Name, err)
	}
	return nil
}

// Delete removes the row of name; there being none is no error.
func (k Keys) Delete(ctx context.Context, name string) error {
	if err := k.db.exec(ctx, `DELETE FROM keys WHERE name = ?`, name); err != nil {
		return fmt.Errorf("delete key %s: %w", name, err)
	}
	return nil
}

// List returns every row by name.
func (k Keys) List(ctx context.Context) ([]KeyRow, error) {
	rows, err := list(ctx, k.db, `SELECT name, hash, team, scope, sandbox, created, expires, used FROM keys ORDER BY name`, scanKey)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return rows, nil
}

func scanKey(scan func(...any) error) (r KeyRow, err error) {
	var created, expires, used int64
	err = scan(&r.Name, &r.Hash, &r.Team, &r.Scope, &r.Sandbox, &created, &expires, &used)
	r.Created, r.Expires, r.Used = fromNanos(created), fromNanos(expires), fromNanos(used)
	return r, err
}
