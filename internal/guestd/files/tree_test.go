package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	pb "bulkhead/proto/filesystem"
)

func stat(t *testing.T, r *rig, path string) *pb.EntryInfo {
	t.Helper()
	res, err := r.Stat(t.Context(), connect.NewRequest(&pb.StatRequest{Path: path}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetEntry()
}

func ptr[T any](v T) *T { return &v }

func TestStat(t *testing.T) {
	for codec, opts := range map[string][]connect.ClientOption{"binary": nil, "json": {connect.WithProtoJSON()}} {
		r := newRig(t, opts...)
		write(t, r.path("file"), "four")
		mkdir(t, r.path("dir"))
		symlink(t, "file", r.path("link"))
		symlink(t, "dir", r.path("dirlink"))
		symlink(t, "nowhere", r.path("dangling"))
		symlink(t, "loop", r.path("loop"))
		mkfifo(t, r.path("fifo"))
		if err := os.Lchown(r.path("file"), 65534, 4711); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(r.path("dir"), 0o1775|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		for attr, value := range map[string]string{"user.e2b.author": "me", "user.e2b.bad": "\xff", "user.other": "x"} {
			if err := unix.Setxattr(r.path("file"), attr, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
		file, dir, none := pb.FileType_FILE_TYPE_FILE, pb.FileType_FILE_TYPE_DIRECTORY, pb.FileType_FILE_TYPE_UNSPECIFIED
		for _, want := range []*pb.EntryInfo{
			{Name: "file", Type: file, Mode: 0o644, Permissions: "-rw-r--r--", Owner: "tester", Group: "4711", Size: 4,
				Metadata: map[string]string{"author": "me"}},
			{Name: "dir", Type: dir, Mode: 0o775, Permissions: "drwxrwxr-x", Owner: "root", Group: "root"},
			{Name: "link", Type: file, Mode: 0o644, Permissions: "Lrwxrwxrwx", Owner: "root", Group: "root", Size: 4,
				SymlinkTarget: ptr(r.path("file")), Metadata: map[string]string{"author": "me"}},
			{Name: "dirlink", Type: dir, Mode: 0o775, Permissions: "Lrwxrwxrwx", Owner: "root", Group: "root", Size: 3,
				SymlinkTarget: ptr(r.path("dir"))},
			{Name: "dangling", Type: none, Permissions: "Lrwxrwxrwx", Owner: "root", Group: "root", Size: 7,
				SymlinkTarget: ptr(r.path("nowhere"))},
			{Name: "loop", Type: none, Permissions: "Lrwxrwxrwx", Owner: "root", Group: "root", Size: 4,
				SymlinkTarget: ptr(r.path("loop"))},
			{Name: "fifo", Type: none, Mode: 0o644, Permissions: "prw-r--r--", Owner: "root", Group: "root"},
		} {
			t.Run(want.Name+" in "+codec, func(t *testing.T) {
				want.Path = r.path(want.Name)
				got := stat(t, r, want.Name) // relative to the home
				if got.GetModifiedTime().GetSeconds() == 0 {
					t.Error("no time of modification")
				}
				opts := []cmp.Option{protocmp.Transform(), protocmp.IgnoreFields(want, "modified_time")}
				if want.GetType() == dir && want.SymlinkTarget == nil { // depends on the file system
					if got.GetSize() == 0 {
						t.Error("directory has no size")
					}
					opts = append(opts, protocmp.IgnoreFields(want, "size"))
				}
				if diff := cmp.Diff(want, got, opts...); diff != "" {
					t.Error("-want +got:\n" + diff)
				}
			})
		}
	}
	t.Run("root directory", func(t *testing.T) {
		if e := stat(t, newRig(t), "/"); e.GetName() != "/" || e.GetPath() != "/" || e.GetPermissions()[0] != 'd' {
			t.Errorf("got %v", e)
		}
	})
}

func TestTreeErrors(t *testing.T) {
	type req struct {
		rpc, path, to string
		user          string
	}
	call := func(ctx context.Context, r *rig, q req) (err error) {
		switch q.rpc {
		case "stat":
			_, err = r.Stat(ctx, as(q.user, &pb.StatRequest{Path: q.path}))
		case "mkdir":
			_, err = r.MakeDir(ctx, as(q.user, &pb.MakeDirRequest{Path: q.path}))
		case "move":
			_, err = r.Move(ctx, as(q.user, &pb.MoveRequest{Source: q.path, Destination: q.to}))
		case "remove":
			_, err = r.Remove(ctx, as(q.user, &pb.RemoveRequest{Path: q.path}))
		case "list":
			_, err = r.ListDir(ctx, as(q.user, &pb.ListDirRequest{Path: q.path}))
		}
		return err
	}
	for _, test := range []struct {
		name string
		req  req
		want connect.Code
		text string
	}{
		{"stat of nothing", req{rpc: "stat", path: "none"}, connect.CodeNotFound, "no such file"},
		{"stat under a file", req{rpc: "stat", path: "file/x"}, connect.CodeNotFound, "not a directory"},
		{"stat of another's home", req{rpc: "stat", path: "~root/x"}, connect.CodeInvalidArgument, "another user's home"},
		{"stat of too long a name", req{rpc: "stat", path: strings.Repeat("x", 300)}, connect.CodeInvalidArgument, "file name too long"},
		{"stat of a zero byte", req{rpc: "stat", path: "a\x00b"}, connect.CodeInvalidArgument, "zero byte"},
		{"stat as nobody known", req{rpc: "stat", path: "file", user: "root123"}, connect.CodeUnauthenticated, "invalid username: 'root123'"},
		{"mkdir of a directory", req{rpc: "mkdir", path: "dir"}, connect.CodeAlreadyExists, "exists"},
		{"mkdir of a file", req{rpc: "mkdir", path: "file"}, connect.CodeInvalidArgument, "is not a directory"},
		{"mkdir under a file", req{rpc: "mkdir", path: "file/x/y"}, connect.CodeInvalidArgument, "file' is not a directory"},
		{"mkdir through a dangling link", req{rpc: "mkdir", path: "dangling/x"}, connect.CodeInvalidArgument, "dangling' is not a directory"},
		{"mkdir where none can be", req{rpc: "mkdir", path: "/proc/x"}, connect.CodeNotFound, "/proc/x"},
		{"move of nothing", req{rpc: "move", path: "none", to: "new/x"}, connect.CodeNotFound, "none"},
		{"move into itself", req{rpc: "move", path: "dir", to: "dir/sub/x"}, connect.CodeInvalidArgument, "invalid argument"},
		{"move onto a directory", req{rpc: "move", path: "dir", to: "full"}, connect.CodeAlreadyExists, "file exists"},
		{"move to another file system", req{rpc: "move", path: "file", to: "/proc/x"}, connect.CodeFailedPrecondition, "cross-device"},
		{"remove of nothing", req{rpc: "remove", path: "none/at/all"}, 0, ""},
		{"remove of the empty path", req{rpc: "remove"}, connect.CodeInvalidArgument, "no path given"},
		{"remove of procfs", req{rpc: "remove", path: "/proc/version"}, connect.CodeFailedPrecondition, "not permitted"},
		{"list of nothing", req{rpc: "list", path: "none"}, connect.CodeNotFound, "no such file"},
		{"list of a file", req{rpc: "list", path: "file"}, connect.CodeInvalidArgument, "is not a directory"},
		{"list of a FIFO", req{rpc: "list", path: "fifo"}, connect.CodeInvalidArgument, "is not a directory"},
		{"list of a loop", req{rpc: "list", path: "loop"}, connect.CodeInvalidArgument, "too many levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, connect.WithProtoJSON())
			write(t, r.path("file"), "")
			mkdir(t, r.path("dir/sub"))
			mkdir(t, r.path("full/of"))
			mkfifo(t, r.path("fifo"))
			symlink(t, "loop", r.path("loop"))
			symlink(t, "nowhere", r.path("dangling"))
			wantCode(t, call(soon(t), r, test.req), test.want, test.text)
			if _, err := os.Lstat(r.path("new")); err == nil {
				t.Error("something was made before the error")
			}
		})
	}
}

func TestMakeDir(t *testing.T) {
	r := newRig(t)
	res, err := r.MakeDir(t.Context(), connect.NewRequest(&pb.MakeDirRequest{Path: "~/a/b/c"}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := res.Msg.GetEntry().GetPath(), r.path("a/b/c"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, dir := range []string{"a", "a/b", "a/b/c"} {
		owned(t, r.path(dir), 65534, 0o755)
	}
	if _, err := r.MakeDir(t.Context(), as("root", &pb.MakeDirRequest{Path: r.path("a/r")})); err != nil {
		t.Fatal(err)
	}
	owned(t, r.path("a/r"), 0, 0o755)
	owned(t, r.path("a"), 65534, 0o755)
}

func TestMove(t *testing.T) {
	r := newRig(t)
	write(t, r.path("old"), "content")
	if err := unix.Setxattr(r.path("old"), "user.e2b.stage", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	res, err := r.Move(t.Context(), connect.NewRequest(&pb.MoveRequest{Source: "old", Destination: "new/place"}))
	if err != nil {
		t.Fatal(err)
	}
	e := res.Msg.GetEntry()
	if e.GetName() != "place" || e.GetPath() != r.path("new/place") || e.GetMetadata()["stage"] != "1" {
		t.Errorf("got %v", e)
	}
	owned(t, r.path("new"), 65534, 0o755)
	if _, err := os.Lstat(r.path("old")); !os.IsNotExist(err) {
		t.Errorf("the source is still there: %v", err)
	}
}

func TestRemove(t *testing.T) {
	r := newRig(t)
	mkdir(t, r.path("dir/sub"))
	write(t, r.path("dir/sub/file"), "")
	write(t, r.path("kept"), "")
	symlink(t, r.path("kept"), r.path("dir/link"))
	if _, err := r.Remove(t.Context(), connect.NewRequest(&pb.RemoveRequest{Path: "dir"})); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.path("dir")); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if _, err := os.Lstat(r.path("kept")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestListDir(t *testing.T) {
	r := newRig(t, connect.WithProtoJSON())
	mkdir(t, r.path("tree/b/deep"))
	mkdir(t, r.path("tree/a"))
	write(t, r.path("tree/b/deep/er"), "")
	write(t, r.path("tree/b.txt"), "")
	write(t, r.path("tree/a/\xff"), "")
	symlink(t, "b", r.path("tree/link"))
	symlink(t, "tree", r.path("treelink"))
	for _, test := range []struct {
		name, path string
		depth      uint32
		want       []string
	}{
		{"one level by default", "tree", 0, []string{"a", "b", "b.txt", "link"}},
		{"one level", "tree", 1, []string{"a", "b", "b.txt", "link"}},
		{"each directory before what is in it", "tree", 2, []string{"a", "a/\uFFFD", "b", "b/deep", "b.txt", "link"}},
		{"all levels", "tree", 1<<32 - 1, []string{"a", "a/\uFFFD", "b", "b/deep", "b/deep/er", "b.txt", "link"}},
		{"under the name that was asked for", "treelink", 1, []string{"a", "b", "b.txt", "link"}},
		{"nothing in an empty directory", "tree/b/deep/../../../empty", 3, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			mkdir(t, r.path("empty"))
			res, err := r.ListDir(t.Context(), connect.NewRequest(&pb.ListDirRequest{Path: test.path, Depth: test.depth}))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range res.Msg.GetEntries() {
				rel, err := filepath.Rel(r.path(test.path), e.GetPath())
				if err != nil || e.GetName() != filepath.Base(rel) {
					t.Errorf("entry %v: %v", e, err)
				}
				got = append(got, rel)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestListDirIsBounded(t *testing.T) {
	r := newRig(t)
	dir := r.path("crowd")
	mkdir(t, dir)
	tmpfs(t, dir, "nr_inodes=0")
	for i := range 100_001 {
		symlink(t, ".", filepath.Join(dir, fmt.Sprint(i)))
	}
	_, err := r.ListDir(t.Context(), connect.NewRequest(&pb.ListDirRequest{Path: dir}))
	wantCode(t, err, connect.CodeResourceExhausted, "more than 100000 entries")
	_, err = r.ListDir(t.Context(), connect.NewRequest(&pb.ListDirRequest{Path: r.home, Depth: 2}))
	wantCode(t, err, connect.CodeResourceExhausted, "more than 100000 entries")
}

// tmpfs mounts a file system of its own for one test.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
