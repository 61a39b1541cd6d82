package files

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead/internal/guestd/account"
	pb "bulkhead/proto/filesystem"
)

// entry describes what is at path, a symlink itself but for type and mode,
// which are those of what it leads to. The path in the answer is shown.
func entry(path, shown string, names account.Names) (*pb.EntryInfo, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	e := &pb.EntryInfo{
		Name:         text(filepath.Base(shown)),
		Type:         typeOf(fi.Mode()),
		Path:         text(shown),
		Size:         fi.Size(),
		Mode:         uint32(fi.Mode().Perm()),
		Permissions:  permissions(fi.Mode()),
		ModifiedTime: timestamppb.New(fi.ModTime()),
		Metadata:     readMetadata(path),
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		e.Owner, e.Group = text(names.User(st.Uid)), text(names.Group(st.Gid))
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		target := followed(path)
		e.SymlinkTarget = &target
		e.Type, e.Mode = pb.FileType_FILE_TYPE_UNSPECIFIED, 0
		if fi, err := os.Stat(path); err == nil {
			e.Type, e.Mode = typeOf(fi.Mode()), uint32(fi.Mode().Perm())
		}
	}
	return e, nil
}

// followed returns where a symlink leads in the end, or if that does not
// exist, where it points.
func followed(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return text(target)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return text(path)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return text(target)
}

// typeOf never returns symlink: clients expect the type of what it leads to.
func typeOf(mode os.FileMode) pb.FileType {
	switch {
	case mode.IsRegular():
		return pb.FileType_FILE_TYPE_FILE
	case mode.IsDir():
		return pb.FileType_FILE_TYPE_DIRECTORY
	}
	return pb.FileType_FILE_TYPE_UNSPECIFIED
}

// permissions returns ten characters as ls(1) shows them, but L for a symlink,
// which is what clients expect.
func permissions(mode os.FileMode) string {
	kind := "-"
	switch {
	case mode.IsDir():
		kind = "d"
	case mode&os.ModeSymlink != 0:
		kind = "L"
	case mode&os.ModeCharDevice != 0:
		kind = "c"
	case mode&os.ModeDevice != 0:
		kind = "b"
	case mode&os.ModeNamedPipe != 0:
		kind = "p"
	case mode&os.ModeSocket != 0:
		kind = "s"
	}
	return kind + mode.Perm().String()[1:]
}

// text makes a name of the guest fit for a message: protobuf refuses strings
// that are not UTF-8, and one odd file name must not spoil a whole listing.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
