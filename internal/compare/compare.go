// Package compare tells in what the files of two moments differ.
//
// Both are read as they come, in the order of a walk, so that a machine with
// millions of files costs no memory. What a guest says of its files may be
// wrong or without end: the result is then wrong for that guest, and bounded
// by who reads it.
//
// It is pure: no I/O.
package compare

import (
	"iter"
	"strings"
)

// Entry is a file as lstat(2) sees it.
type Entry struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Size     int64
	// Modified and Changed are nanoseconds since 1970.
	Modified, Changed int64
	Inode             uint64
}

// The type of a file in its mode (inode(7)).
const (
	typeMask = 0o170000
	typeDir  = 0o040000
)

// Folder reports whether it is a folder.
func (e Entry) Folder() bool { return e.Mode&typeMask == typeDir }

// Kind is how a file differs.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// Change is a file that differs. Before and After are zero where it is not.
type Change struct {
	Kind          Kind
	Path          string
	Before, After Entry
}

// Trees returns what differs between two walks, in their order. It ends with
// the first error of either.
func Trees(before, after iter.Seq2[Entry, error]) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		nextOld, stopOld := iter.Pull2(before)
		defer stopOld()
		nextNew, stopNew := iter.Pull2(after)
		defer stopNew()
		o, oerr, more := nextOld()
		n, nerr, new := nextNew()
		for more || new {
			if err := first(oerr, nerr); err != nil {
				yield(Change{}, err)
				return
			}
			c, differs, which := step(o, n, more, new)
			if differs && !yield(c, nil) {
				return
			}
			if which <= 0 {
				o, oerr, more = nextOld()
			}
			if which >= 0 {
				n, nerr, new = nextNew()
			}
		}
	}
}

// step compares what is next in both. which is negative if the old one has been
// dealt with, positive if the new one has, 0 for both.
func step(o, n Entry, haveOld, haveNew bool) (c Change, differs bool, which int) {
	switch {
	case !haveNew:
		which = -1
	case !haveOld:
		which = 1
	default:
		which = strings.Compare(order(o.Path), order(n.Path))
	}
	switch {
	case which < 0:
		return Change{Removed, o.Path, o, Entry{}}, true, which
	case which > 0:
		return Change{Added, n.Path, Entry{}, n}, true, which
	}
	return Change{Changed, n.Path, o, n}, differ(o, n), 0
}

// order makes strings compare as a walk goes: what is in a folder comes before
// what has a longer name than it. No name has a zero byte.
func order(path string) string { return strings.ReplaceAll(path, "/", "\x00") }

// differ reports whether a file is not what it was. Whoever can set a time of
// modification back cannot set that of change back, except by the clock. A
// folder is what it is, not what is in it.
func differ(a, b Entry) bool {
	if a.Folder() && b.Folder() {
		a.Size, a.Modified, a.Changed = b.Size, b.Modified, b.Changed
	}
	return a != b
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
