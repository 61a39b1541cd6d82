package files

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/account"
	pb "bulkhead/proto/filesystem"
)

// maxEntries bounds one listing: some tens of megabytes of answer.
const maxEntries = 100_000

// who returns the user of an RPC request and what its path means.
func (s *Service) who(h http.Header, path string) (account.User, string, error) {
	user, err := s.opts.Users.Of(h)
	if err != nil {
		return user, "", err
	}
	path, err = user.Path(path, s.workdir())
	return user, path, err
}

// Stat describes one path.
func (s *Service) Stat(_ context.Context, req *connect.Request[pb.StatRequest]) (*connect.Response[pb.StatResponse], error) {
	_, path, err := s.who(req.Header(), req.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	e, err := entry(path, path, s.opts.Users.Names())
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&pb.StatResponse{Entry: e}), nil
}

// MakeDir makes a directory that does not exist, and its parents.
func (s *Service) MakeDir(_ context.Context, req *connect.Request[pb.MakeDirRequest]) (*connect.Response[pb.MakeDirResponse], error) {
	user, path, err := s.who(req.Header(), req.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return nil, rpcError(fault.New(fault.Exists, "directory '%s' exists", path))
	case err == nil:
		return nil, rpcError(notDir(path))
	}
	if err := makeDirs(path, user); err != nil {
		return nil, rpcError(err)
	}
	e, err := entry(path, path, s.opts.Users.Names())
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&pb.MakeDirResponse{Entry: e}), nil
}

// Move renames, and makes the parents of the destination.
func (s *Service) Move(_ context.Context, req *connect.Request[pb.MoveRequest]) (*connect.Response[pb.MoveResponse], error) {
	user, from, err := s.who(req.Header(), req.Msg.GetSource())
	if err != nil {
		return nil, rpcError(err)
	}
	to, err := user.Path(req.Msg.GetDestination(), s.workdir())
	if err != nil {
		return nil, rpcError(err)
	}
	if _, err := os.Lstat(from); err != nil { // before anything is made for it
		return nil, rpcError(err)
	}
	if err := makeDirs(filepath.Dir(to), user); err != nil {
		return nil, rpcError(err)
	}
	if err := os.Rename(from, to); err != nil {
		return nil, rpcError(err)
	}
	e, err := entry(to, to, s.opts.Users.Names())
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&pb.MoveResponse{Entry: e}), nil
}

// Remove removes a file, or a directory with all that is in it. What does not
// exist is removed already. An empty path is refused rather than taken for
// the home.
func (s *Service) Remove(_ context.Context, req *connect.Request[pb.RemoveRequest]) (*connect.Response[pb.RemoveResponse], error) {
	_, path, err := s.who(req.Header(), req.Msg.GetPath())
	if err == nil && req.Msg.GetPath() == "" {
		err = fault.New(fault.Invalid, "no path given")
	}
	if err == nil {
		err = os.RemoveAll(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&pb.RemoveResponse{}), nil
}

// ListDir lists a directory in lexical order, each directory before what is in
// it, down to a depth.
func (s *Service) ListDir(ctx context.Context, req *connect.Request[pb.ListDirRequest]) (*connect.Response[pb.ListDirResponse], error) {
	_, path, err := s.who(req.Header(), req.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	l := &listing{names: s.opts.Users.Names()}
	if err := l.dir(ctx, path, max(req.Msg.GetDepth(), 1)); err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&pb.ListDirResponse{Entries: l.entries}), nil
}

// listing is the answer of ListDir as it grows.
type listing struct {
	names   account.Names
	entries []*pb.EntryInfo
}

// dir adds what is in path. Below the top, what vanishes or cannot be read,
// such as a FUSE mount of another user, is left out.
func (l *listing) dir(ctx context.Context, path string, depth uint32) error {
	names, err := l.read(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		below := filepath.Join(path, name)
		e, err := entry(below, below, l.names)
		if err != nil {
			continue
		}
		l.entries = append(l.entries, e)
		if depth > 1 && e.GetType() == pb.FileType_FILE_TYPE_DIRECTORY && e.SymlinkTarget == nil {
			if err := l.dir(ctx, below, depth-1); fault.Is(err, fault.Exhausted) || ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// read returns the sorted names in a directory, if the listing has room.
func (l *listing) read(path string) ([]string, error) {
	fi, err := os.Stat(path) // not open: that may block on a FIFO
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, notDir(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	room := maxEntries - len(l.entries)
	names, err := f.Readdirnames(room + 1)
	if len(names) > room {
		return nil, fault.New(fault.Exhausted, "listing has more than %d entries: list fewer levels", maxEntries)
	}
	if len(names) == 0 {
		return nil, nil // the error is io.EOF then
	}
	slices.Sort(names)
	return names, err
}

// makeDirs makes a directory and its parents, all owned by user. What exists
// stays as it is.
func makeDirs(path string, user account.User) error {
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		return notDir(path)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return err
	}
	if err := makeDirs(filepath.Dir(path), user); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() { // a symlink to nowhere, or lost a race
		return notDir(path)
	}
	return os.Chown(path, int(user.UID), int(user.GID))
}

func notDir(path string) error {
	return fault.New(fault.Invalid, "path '%s' is not a directory", path)
}
