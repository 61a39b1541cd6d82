package files_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"connectrpc.com/connect"

	pb "bulkhead/proto/filesystem"
)

// eventually receives from a stream until an event of that name and type.
func eventually(t *testing.T, s *connect.ServerStreamForClient[pb.WatchDirResponse], name string, what pb.EventType) *pb.FilesystemEvent {
	t.Helper()
	for s.Receive() {
		if ev := s.Msg().GetFilesystem(); ev.GetName() == name && ev.GetType() == what {
			return ev
		}
	}
	t.Fatalf("stream ended before %s %v: %v", name, what, s.Err())
	return nil
}

func TestWatchDir(t *testing.T) {
	r := newRig(t, connect.WithProtoJSON())
	mkdir(t, r.path("dir/sub"))
	req := connect.NewRequest(&pb.WatchDirRequest{Path: "dir", Recursive: true, IncludeEntry: true})
	req.Header().Set("Keepalive-Ping-Interval", "1")
	s, err := r.WatchDir(soon(t), req)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Receive() || s.Msg().GetStart() == nil {
		t.Fatalf("first event is %v, want start (%v)", s.Msg(), s.Err())
	}
	write(t, r.path("dir/sub/file"), "new")
	ev := eventually(t, s, "sub/file", pb.EventType_EVENT_TYPE_WRITE)
	if e := ev.GetEntry(); e.GetPath() != r.path("dir/sub/file") || e.GetName() != "file" || e.GetType() != pb.FileType_FILE_TYPE_FILE {
		t.Errorf("entry is %v", e)
	}
	write(t, r.path("dir/\xfe"), "")
	eventually(t, s, "\uFFFD", pb.EventType_EVENT_TYPE_CREATE)
	if err := os.Remove(r.path("dir/sub/file")); err != nil {
		t.Fatal(err)
	}
	if ev := eventually(t, s, "sub/file", pb.EventType_EVENT_TYPE_REMOVE); ev.GetEntry() != nil {
		t.Errorf("a removed file has entry %v", ev.GetEntry())
	}
	for s.Msg().GetKeepalive() == nil { // after a second of silence
		if !s.Receive() {
			t.Fatal(s.Err())
		}
	}
}

func TestWatchErrors(t *testing.T) {
	r := newRig(t)
	write(t, r.path("file"), "")
	for _, test := range []struct {
		name, path string
		want       connect.Code
	}{
		{"nothing", "none", connect.CodeNotFound},
		{"a file", "file", connect.CodeInvalidArgument},
		{"another's home", "~root", connect.CodeInvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := r.WatchDir(soon(t), connect.NewRequest(&pb.WatchDirRequest{Path: test.path}))
			if err == nil {
				s.Receive()
				err = s.Err()
			}
			wantCode(t, err, test.want, "")
			_, err = r.CreateWatcher(t.Context(), connect.NewRequest(&pb.CreateWatcherRequest{Path: test.path}))
			wantCode(t, err, test.want, "")
		})
	}
	_, err := r.GetWatcherEvents(t.Context(), connect.NewRequest(&pb.GetWatcherEventsRequest{WatcherId: "w0"}))
	wantCode(t, err, connect.CodeNotFound, "no watcher with id 'w0'")
	_, err = r.RemoveWatcher(t.Context(), connect.NewRequest(&pb.RemoveWatcherRequest{WatcherId: "w0"}))
	wantCode(t, err, connect.CodeNotFound, "no watcher with id 'w0'")
}

func (r *rig) watcher(t *testing.T, path string) string {
	t.Helper()
	res, err := r.CreateWatcher(t.Context(), connect.NewRequest(&pb.CreateWatcherRequest{Path: path}))
	if err != nil {
		t.Fatal(err)
	}
	if id := res.Msg.GetWatcherId(); len(id) < 2 || id[0] != 'w' {
		t.Fatalf("id is %q", id)
	}
	return res.Msg.GetWatcherId()
}

func (r *rig) poll(t *testing.T, id string) ([]*pb.FilesystemEvent, error) {
	t.Helper()
	res, err := r.GetWatcherEvents(soon(t), connect.NewRequest(&pb.GetWatcherEventsRequest{WatcherId: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetEvents(), nil
}

// polled polls until the event of that name has come, and returns all before.
func (r *rig) polled(t *testing.T, id, name string) (seen []string) {
	t.Helper()
	for ctx := soon(t); ctx.Err() == nil; {
		events, err := r.poll(t, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			seen = append(seen, ev.GetName())
		}
		if slices.Contains(seen, name) {
			return seen
		}
	}
	t.Fatalf("no event %s, only %v", name, seen)
	return nil
}

func TestPolling(t *testing.T) {
	t.Run("events are told once", func(t *testing.T) {
		r := newRig(t)
		id := r.watcher(t, "")
		write(t, r.path("one"), "")
		r.polled(t, id, "one")
		write(t, r.path("two"), "")
		if seen := r.polled(t, id, "two"); slices.Contains(seen, "one") {
			t.Errorf("told twice: %v", seen)
		}
		if _, err := r.RemoveWatcher(t.Context(), connect.NewRequest(&pb.RemoveWatcherRequest{WatcherId: id})); err != nil {
			t.Error(err)
		}
		_, err := r.poll(t, id)
		wantCode(t, err, connect.CodeNotFound, id)
	})
	t.Run("a watcher that nobody polls does not grow", func(t *testing.T) {
		r := newRig(t)
		id, witness := r.watcher(t, ""), r.watcher(t, "")
		for i := range 6_000 { // each is told as created and, closed, as written
			write(t, r.path("same"), "x")
			if err := os.Remove(r.path("same")); err != nil {
				t.Fatal(err)
			}
			if i%1000 == 0 {
				write(t, r.path(fmt.Sprint("mark", i)), "")
				r.polled(t, witness, fmt.Sprint("mark", i))
			}
		}
		write(t, r.path("end"), "")
		r.polled(t, witness, "end")
		events, err := r.poll(t, id)
		if got, want := len(events), 10_000; got != want || err != nil {
			t.Errorf("got %d events and %v, want %d", got, err, want)
		}
		_, err = r.poll(t, id)
		wantCode(t, err, connect.CodeDataLoss, "events were lost")
	})
	t.Run("the forgotten ones make room", func(t *testing.T) {
		r := newRig(t)
		first, second := r.watcher(t, ""), r.watcher(t, "")
		if _, err := r.poll(t, first); err != nil { // now second is the oldest
			t.Fatal(err)
		}
		for range 63 {
			r.watcher(t, "")
		}
		if _, err := r.poll(t, first); err != nil {
			t.Error(err)
		}
		_, err := r.poll(t, second)
		wantCode(t, err, connect.CodeNotFound, second)
	})
}
