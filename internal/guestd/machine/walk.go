package machine

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"bulkhead/proto/machine"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// walkBatch is how many entries go into one message: some 20 KB.
const walkBatch = 200

// Walk implements the call of that name.
func (s *Service) Walk(ctx context.Context, req *connect.Request[machine.WalkRequest], out *connect.ServerStream[machine.WalkResponse]) error {
	root := req.Msg.GetRoot()
	if !filepath.IsAbs(root) {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("root is not an absolute path"))
	}
	w := walk{out: out}
	err := filepath.WalkDir(filepath.Clean(root), func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return w.visit(path)
	})
	if err == nil {
		err = w.flush()
	}
	return err
}

// walk sends what it is shown.
type walk struct {
	out   *connect.ServerStream[machine.WalkResponse]
	batch []*machine.Entry
	// device is what the root is on; nil before the first.
	device *uint64
}

// visit adds one file. What has gone meanwhile, or cannot be read, is left out.
func (w *walk) visit(path string) error {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return nil
	}
	if w.device == nil {
		w.device = &st.Dev
	}
	folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Dev != *w.device {
		return skip(folder)
	}
	w.batch = append(w.batch, &machine.Entry{
		Path: []byte(path), Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Size: st.Size,
		MtimeNanos: st.Mtim.Nano(), CtimeNanos: st.Ctim.Nano(), Inode: st.Ino,
	})
	if len(w.batch) < walkBatch {
		return nil
	}
	return w.flush()
}

func skip(folder bool) error {
	if folder {
		return filepath.SkipDir
	}
	return nil
}

func (w *walk) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	batch := w.batch
	w.batch = nil
	return w.out.Send(&machine.WalkResponse{Entries: batch})
}
