package sqlite

// migrations lead from an empty file to the current tables. The file's
// user_version says how many it has seen. A migration that was released is
// never changed: what must change is a new one.
func migrations() []string {
	return []string{
		`CREATE TABLE sandboxes (
			id         TEXT PRIMARY KEY,
			name       TEXT NOT NULL,
			template   TEXT NOT NULL,
			state      TEXT NOT NULL,
			reason     TEXT NOT NULL,
			created    INTEGER NOT NULL,
			started    INTEGER NOT NULL,
			cpus       INTEGER NOT NULL,
			memory_mib INTEGER NOT NULL,
			disk_mib   INTEGER NOT NULL,
			head       TEXT NOT NULL,
			spec       BLOB NOT NULL
		) STRICT;
		CREATE UNIQUE INDEX sandbox_names ON sandboxes (name) WHERE name <> '';
		CREATE TABLE templates (
			name     TEXT PRIMARY KEY,
			snapshot TEXT NOT NULL,
			created  INTEGER NOT NULL,
			spec     BLOB NOT NULL
		) STRICT;
		CREATE TABLE journal (
			id    INTEGER PRIMARY KEY AUTOINCREMENT,
			kind  TEXT NOT NULL,
			owner TEXT NOT NULL,
			ident TEXT NOT NULL,
			UNIQUE (kind, owner, ident)
		) STRICT`,
		// Each team has names of its own. Keys are known by their hash alone.
		`ALTER TABLE sandboxes ADD COLUMN team TEXT NOT NULL DEFAULT 'default';
		DROP INDEX sandbox_names;
		CREATE UNIQUE INDEX sandbox_names ON sandboxes (team, name) WHERE name <> '';
		CREATE TABLE keys (
			name    TEXT PRIMARY KEY,
			hash    BLOB NOT NULL UNIQUE,
			team    TEXT NOT NULL,
			scope   TEXT NOT NULL,
			sandbox TEXT NOT NULL,
			created INTEGER NOT NULL,
			expires INTEGER NOT NULL,
			used    INTEGER NOT NULL
		) STRICT`,
	}
}
