package files

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/keepalive"
	"bulkhead/internal/guestd/watch"
	pb "bulkhead/proto/filesystem"
)

const (
	// maxPollers bounds polling watchers; each holds an inotify instance, of
	// which a user has 128 by default (fs.inotify.max_user_instances).
	maxPollers = 64
	// maxQueue bounds the events that wait for one poll.
	maxQueue = 10_000
)

// watchRequest is what both ways to watch ask for.
type watchRequest interface {
	GetPath() string
	GetRecursive() bool
	GetIncludeEntry() bool
	GetAllowNetworkMounts() bool
}

// tree is a directory that a client watches.
type tree struct {
	*watch.Watch
	describe func(name string, what pb.EventType) *pb.FilesystemEvent
}

func (s *Service) openTree(h http.Header, req watchRequest) (*tree, error) {
	_, path, err := s.who(h, req.GetPath())
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, notDir(path)
	}
	if !req.GetAllowNetworkMounts() && onNetwork(path) {
		return nil, fault.New(fault.Invalid, "path '%s' is on a network file system, which does not tell of changes elsewhere", path)
	}
	w, err := watch.Open(path, req.GetRecursive())
	if err != nil {
		return nil, err
	}
	names := s.opts.Users.Names()
	describe := func(name string, what pb.EventType) *pb.FilesystemEvent {
		ev := &pb.FilesystemEvent{Name: text(name), Type: what}
		if req.GetIncludeEntry() && slices.Contains(withEntry, what) {
			file := filepath.Join(path, name)
			ev.Entry, _ = entry(file, file, names) // it may be gone again
		}
		return ev
	}
	return &tree{w, describe}, nil
}

// withEntry are the events after which the entry is still what they tell of.
var withEntry = []pb.EventType{
	pb.EventType_EVENT_TYPE_CREATE, pb.EventType_EVENT_TYPE_WRITE, pb.EventType_EVENT_TYPE_CHMOD,
}

func onNetwork(path string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC:
		return true
	}
	return false
}

// watchError gives an error of a watch its RPC code. Events that were lost
// must not look like quiet.
func watchError(err error) error {
	if errors.Is(err, watch.ErrLost) {
		return rpcError(fault.New(fault.Corrupt, "%w: list the directory and watch again", err))
	}
	return rpcError(err)
}

// WatchDir streams the events of a directory until the client leaves. A client
// that does not read loses the stream, not memory of the guest.
func (s *Service) WatchDir(ctx context.Context, req *connect.Request[pb.WatchDirRequest], stream *connect.ServerStream[pb.WatchDirResponse]) error {
	t, err := s.openTree(req.Header(), req.Msg)
	if err != nil {
		return rpcError(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	events, ended := make(chan *pb.FilesystemEvent), make(chan error, 1)
	go func() {
		ended <- t.Run(ctx, func(name string, what pb.EventType) error {
			select {
			case events <- t.describe(name, what):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { // until the goroutine is over
		}
	}()
	every := keepalive.Interval(req.Header())
	idle := time.NewTimer(every)
	defer idle.Stop()
	res := &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Start{Start: &pb.WatchDirResponse_StartEvent{}}}
	for {
		if err := stream.Send(res); err != nil {
			return err
		}
		idle.Reset(every)
		select {
		case ev := <-events:
			res = &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Filesystem{Filesystem: ev}}
		case <-idle.C:
			res = &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Keepalive{Keepalive: &pb.WatchDirResponse_KeepAlive{}}}
		case err := <-ended:
			return watchError(err)
		}
	}
}

// poller collects the events of a directory between two polls.
type poller struct {
	stop func() // ends the collecting and waits for it

	mu     sync.Mutex
	events []*pb.FilesystemEvent // guarded by mu
	err    error                 // why no more come; guarded by mu
	polled time.Time             // guarded by Service.mu
}

// CreateWatcher starts a polling watcher. When there are too many, the one
// that has not been polled for the longest is taken for forgotten and ended.
func (s *Service) CreateWatcher(_ context.Context, req *connect.Request[pb.CreateWatcherRequest]) (*connect.Response[pb.CreateWatcherResponse], error) {
	t, err := s.openTree(req.Header(), req.Msg)
	if err != nil {
		return nil, rpcError(err)
	}
	p := startPoller(t)
	id := "w" + strings.ToLower(rand.Text())
	if forgotten := s.addPoller(id, p); forgotten != nil {
		forgotten.stop()
	}
	return connect.NewResponse(&pb.CreateWatcherResponse{WatcherId: id}), nil
}

// addPoller returns the poller that had to make room, or nil.
func (s *Service) addPoller(id string, p *poller) (forgotten *poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pollers) >= maxPollers {
		oldest := ""
		for id, q := range s.pollers {
			if oldest == "" || q.polled.Before(s.pollers[oldest].polled) {
				oldest = id
			}
		}
		forgotten = s.pollers[oldest]
		delete(s.pollers, oldest)
	}
	p.polled = time.Now()
	s.pollers[id] = p
	return forgotten
}

func startPoller(t *tree) *poller {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p := &poller{stop: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		err := t.Run(ctx, func(name string, what pb.EventType) error {
			ev := t.describe(name, what)
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.events) == maxQueue {
				return watch.ErrLost
			}
			p.events = append(p.events, ev)
			return nil
		})
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}()
	return p
}

// GetWatcherEvents returns what has happened since the last poll. If a watcher
// has come to its end, that is the answer once no events are left.
func (s *Service) GetWatcherEvents(_ context.Context, req *connect.Request[pb.GetWatcherEventsRequest]) (*connect.Response[pb.GetWatcherEventsResponse], error) {
	s.mu.Lock()
	p, ok := s.pollers[req.Msg.GetWatcherId()]
	if ok {
		p.polled = time.Now()
	}
	s.mu.Unlock()
	if !ok {
		return nil, noWatcher(req.Msg.GetWatcherId())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) == 0 && p.err != nil {
		return nil, watchError(p.err)
	}
	res := &pb.GetWatcherEventsResponse{Events: p.events}
	p.events = nil
	return connect.NewResponse(res), nil
}

// RemoveWatcher ends a polling watcher.
func (s *Service) RemoveWatcher(_ context.Context, req *connect.Request[pb.RemoveWatcherRequest]) (*connect.Response[pb.RemoveWatcherResponse], error) {
	s.mu.Lock()
	p, ok := s.pollers[req.Msg.GetWatcherId()]
	delete(s.pollers, req.Msg.GetWatcherId())
	s.mu.Unlock()
	if !ok {
		return nil, noWatcher(req.Msg.GetWatcherId())
	}
	p.stop()
	return connect.NewResponse(&pb.RemoveWatcherResponse{}), nil
}

func noWatcher(id string) error {
	return rpcError(fault.New(fault.NotFound, "no watcher with id '%s'", id))
}
