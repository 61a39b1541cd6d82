package account

import (
	"bytes"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxFile bounds how much of passwd or group is read: a system with ten
// thousand users has about that much.
const maxFile = 1 << 20

// passwd yields the entries of passwd(5) that make sense.
func (u Users) passwd() iter.Seq[User] {
	return func(yield func(User) bool) {
		for f := range u.lines("passwd") {
			if len(f) < 6 { // name:password:uid:gid:comment:home:shell
				continue
			}
			uid, ok1 := parseID(f[2])
			gid, ok2 := parseID(f[3])
			if !ok1 || !ok2 {
				continue
			}
			user := User{Name: f[0], UID: uid, GID: gid, Home: "/"}
			if filepath.IsAbs(f[5]) {
				user.Home = filepath.Clean(f[5])
			}
			if len(f) > 6 {
				user.Shell = f[6]
			}
			if !yield(user) {
				return
			}
		}
	}
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// group yields the entries of group(5) that make sense.
func (u Users) group() iter.Seq[group] {
	return func(yield func(group) bool) {
		for f := range u.lines("group") {
			if len(f) < 3 { // name:password:gid:member,member
				continue
			}
			gid, ok := parseID(f[2])
			if !ok {
				continue
			}
			g := group{name: f[0], gid: gid}
			if len(f) > 3 {
				g.members = strings.Split(f[3], ",")
			}
			if !yield(g) {
				return
			}
		}
	}
}

// lines yields the fields of every line of a file that names somebody.
// Comments and the "+" and "-" lines of NIS do not.
func (u Users) lines(file string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(u.read(file)) {
			s := strings.TrimRight(string(line), "\r\n")
			if s == "" || strings.ContainsRune("#+-:", rune(s[0])) || strings.ContainsRune(s, 0) {
				continue
			}
			if !yield(strings.SplitN(s, ":", 7)) {
				return
			}
		}
	}
}

// read returns the whole lines of a regular file within maxFile; whatever goes
// wrong, there is simply less to read.
func (u Users) read(file string) []byte {
	dir := u.Dir
	if dir == "" {
		dir = "/etc"
	}
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxFile))
	if len(data) == maxFile { // the last line may be half of one
		data = data[:bytes.LastIndexByte(data, '\n')+1]
	}
	return data
}

// parseID parses a uid or gid. The largest number is none: to chown(2) and
// setresuid(2) it means "leave as it is".
func parseID(s string) (id uint32, ok bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != math.MaxUint32
}
