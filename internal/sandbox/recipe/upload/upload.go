// Package upload keeps the files that clients send for builds: archives, each
// under the hash that its client calls it by.
//
//	Grant ──► token ──Receive, once──► file ──Open──► a build
//
// What is in an archive is a matter for the machine that unpacks it: here it is
// bytes. Nor is a hash believed to be that of what came with it, so teams do not
// share files. A file appears whole and durable, or not at all.
//
// upload must not know builds or machines. A Store is safe for concurrent use.
package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/recipe"
)

const (
	// grantFor is how long an upload may begin after it was granted: what SDKs
	// give it in all.
	grantFor = time.Hour
	// maxGrants is how many a team has that it has not used: most are for files
	// that need not be sent. The oldest goes.
	maxGrants = 1000
	// keepFor is how long a file is kept that nobody uses.
	keepFor = 7 * 24 * time.Hour
	// unfinished ends the names of files that are not whole.
	unfinished = ".new"
)

// Limits bound what is kept, in bytes.
type Limits struct{ File, Team int64 }

// Store keeps files.
type Store struct {
	dir    string
	limits Limits
	clock  func() time.Time

	mu     sync.Mutex
	grants map[string]Grant // by token; guarded by mu
	// promised is what uploads under way may take, by team; guarded by mu.
	promised map[string]int64
}

// Grant is what may be uploaded with a token.
type Grant struct {
	Team, Template, Hash string
	until                time.Time
}

// Open returns what is kept in a folder, which is made if it is not there.
func Open(dir string, limits Limits, clock func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open uploads: %w", err)
	}
	s := &Store{dir: dir, limits: limits, clock: clock, grants: map[string]Grant{}, promised: map[string]int64{}}
	return s, s.Sweep()
}

// folder is that of a team, whose name is not made part of a path.
func (s *Store) folder(team string) string {
	sum := sha256.Sum256([]byte(team))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16]))
}

// Has reports whether a team has sent the files of a hash, for who is about to
// use them.
func (s *Store) Has(team, hash string) bool {
	f, err := s.Open(team, hash)
	return err == nil && f.Close() == nil
}

// Grant returns a token with which the files of g may be sent, once.
func (s *Store) Grant(g Grant) (token string, err error) {
	if err := recipe.CheckHash(g.Hash); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, ours, oldest := s.clock(), 0, ""
	for token, is := range s.grants {
		switch {
		case now.After(is.until):
			delete(s.grants, token)
		case is.Team == g.Team:
			ours++
			if oldest == "" || is.until.Before(s.grants[oldest].until) {
				oldest = token
			}
		}
	}
	if ours >= maxGrants {
		delete(s.grants, oldest)
	}
	token, g.until = strings.ToLower(rand.Text()), now.Add(grantFor)
	s.grants[token] = g
	return token, nil
}

// Receive keeps what a client sends with a token, which is worth nothing then.
// fault.Denied for a token that is not for the files of that template and hash.
func (s *Store) Receive(_ context.Context, token string, as Grant, length int64, body io.Reader) (err error) {
	g, err := s.redeem(token, as)
	if err != nil {
		return err
	}
	switch {
	case length < 0:
		return fault.New(fault.Invalid, "the length of the files is not given").Hint("send Content-Length")
	case length > s.limits.File:
		return fault.New(fault.Invalid, "files of %d MiB are larger than %d MiB", length>>20, s.limits.File>>20).Hint("leave out what the build does not need: .dockerignore")
	}
	dir := s.folder(g.Team)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep files: %w", err)
	}
	done, err := s.reserve(g.Team, length)
	if err != nil {
		return err
	}
	defer done()
	f, err := os.CreateTemp(dir, "*"+unfinished)
	if err != nil {
		return fmt.Errorf("keep files: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if rmerr := os.Remove(f.Name()); !errors.Is(rmerr, fs.ErrNotExist) {
			err = errors.Join(err, rmerr)
		}
	}()
	n, err := io.Copy(f, io.LimitReader(body, length+1))
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "files broke off after %d of %d bytes: %w", n, length, err)
	case n != length:
		return fault.New(fault.Invalid, "files have not the %d bytes that were announced", length)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("keep files: %w", err)
	}
	if err := durable.Rename(f.Name(), filepath.Join(dir, g.Hash)); err != nil {
		return fmt.Errorf("keep files: %w", err)
	}
	return nil
}

func (s *Store) redeem(token string, as Grant) (Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[token]
	if !ok || g.Template != as.Template || g.Hash != as.Hash || s.clock().After(g.until) {
		return g, fault.New(fault.Denied, "this is no address to send files to, or not any more").Hint("ask for another: GET /templates/{template}/files/{hash}")
	}
	delete(s.grants, token)
	return g, nil
}

// reserve refuses more than a team may have. The oldest of what it has goes
// first.
func (s *Store) reserve(team string, length int64) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.files(s.folder(team))
	if err != nil {
		return nil, err
	}
	taken := s.promised[team]
	for _, f := range files {
		taken += f.Size()
	}
	for _, f := range files {
		if taken+length <= s.limits.Team {
			break
		}
		if err := os.Remove(filepath.Join(s.folder(team), f.Name())); err != nil {
			return nil, err
		}
		taken -= f.Size()
	}
	if taken+length > s.limits.Team {
		return nil, fault.New(fault.Limited, "uploads of the team would take more than %d MiB", s.limits.Team>>20).Hint("wait until those under way have ended")
	}
	s.promised[team] += length
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.promised[team] -= length; s.promised[team] == 0 {
			delete(s.promised, team)
		}
	}, nil
}

// files lists the whole files of a folder, the one first that was used least
// lately.
func (s *Store) files(dir string) (all []fs.FileInfo, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && !strings.HasSuffix(e.Name(), unfinished) {
			all = append(all, fi)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	return all, nil
}

// Open opens the files of a hash; fault.NotFound if the team has sent none.
func (s *Store) Open(team, hash string) (*os.File, error) {
	if err := recipe.CheckHash(hash); err != nil {
		return nil, err
	}
	path := filepath.Join(s.folder(team), hash)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "files %.12s have not been sent", hash)
	}
	if err != nil {
		return nil, err
	}
	now := s.clock()
	_ = os.Chtimes(path, now, now) // it may be forgotten sooner
	return f, nil
}

// Sweep removes what nobody has used for long, and at Open what is not whole.
func (s *Store) Sweep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	teams, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("sweep uploads: %w", err)
	}
	oldest := s.clock().Add(-keepFor)
	for _, t := range teams {
		dir := filepath.Join(s.dir, t.Name())
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("sweep uploads: %w", err)
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil { // it has gone
				continue
			}
			stale := fi.ModTime().Before(oldest)
			if strings.HasSuffix(e.Name(), unfinished) {
				stale = len(s.promised) == 0
			}
			if !stale {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("sweep uploads: %w", err)
			}
		}
	}
	return nil
}
