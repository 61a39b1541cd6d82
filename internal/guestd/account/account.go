// Package account answers who a user of the guest is: ids, groups, home and
// shell, read from passwd and group as they are at that moment.
//
// The agent is one static binary without libc, so it parses both files itself.
// They belong to the guest: missing, cut off, a FIFO or full of nonsense, they
// may cost an unknown user but never the agent, and root is always there.
//
// account knows HTTP headers, because requests name their user in one; it must
// not know processes or files. Users is a value and safe for concurrent use.
package account

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"bulkhead/internal/fault"
)

// Root is the one user that exists whatever the files say.
const Root = "root"

// User is who a program runs as or a file belongs to.
type User struct {
	Name string
	UID  uint32
	GID  uint32
	// Groups are all group ids, GID first.
	Groups []uint32
	// Home is absolute and clean; it need not exist.
	Home string
	// Shell is as the file has it, possibly empty.
	Shell string
}

// Users is the guest's user database.
type Users struct {
	// Dir holds the files passwd and group; empty means /etc.
	Dir string
	// Default says who the user of a request is that names none, if there is
	// such a user; else it is root. Nil means root.
	Default func() string
}

// Lookup returns the user of that name. The first entry of a name wins, as
// everywhere. Root keeps uid and gid 0 even without an entry or with a false
// one. The error is of kind denied: no such user.
func (u Users) Lookup(name string) (User, error) {
	user, ok := u.find(name)
	switch {
	case name == Root && !ok:
		user = User{Name: Root, Home: "/root"}
	case name == Root:
		user.UID, user.GID = 0, 0
	case !ok:
		// The words are what SDK tests look for.
		return User{}, fault.New(fault.Denied, "invalid username: '%s'", name)
	}
	user.Groups = u.groups(user)
	return user, nil
}

// Of returns the user that the header's Basic credentials name (the password
// does not count), the default user if there are none.
func (u Users) Of(h http.Header) (User, error) {
	if name, ok := basic(h); ok {
		return u.Lookup(name)
	}
	if u.Default == nil {
		return u.Lookup(Root)
	}
	user, err := u.Lookup(u.Default())
	if err != nil {
		return u.Lookup(Root)
	}
	return user, nil
}

// Guard lets only RPC requests through to next whose Basic credentials, if
// any, name a user that exists; others get unauthenticated.
func (u Users) Guard(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := basic(r.Header); ok {
			if _, err := u.Lookup(name); err != nil {
				// The connection is all that can fail now, and it is the client's.
				_ = refuse.Write(w, r, connect.NewError(connect.CodeUnauthenticated, err))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func basic(h http.Header) (name string, ok bool) {
	name, _, ok = (&http.Request{Header: h}).BasicAuth()
	return name, ok && name != ""
}

// Path makes p absolute and clean: "~" is the home, a relative path starts
// there, an empty one means workdir, or the home if that is empty too. The
// error is of kind invalid.
func (u User) Path(p, workdir string) (string, error) {
	if p == "" {
		p = workdir
	}
	if rest, ok := strings.CutPrefix(p, "~"); ok {
		if rest != "" && rest[0] != '/' {
			return "", fault.New(fault.Invalid, "path '%s' names another user's home: give it in full", p)
		}
		p = u.Home + "/" + rest
	}
	if strings.ContainsRune(p, 0) {
		return "", fault.New(fault.Invalid, "path holds a zero byte")
	}
	if !filepath.IsAbs(p) {
		p = u.Home + "/" + p
	}
	return filepath.Clean(p), nil
}

// Names are the names of ids, for showing who owns a file.
type Names struct {
	users, groups map[uint32]string
}

// Names reads the names of all users and groups.
func (u Users) Names() Names {
	n := Names{users: map[uint32]string{}, groups: map[uint32]string{}}
	for user := range u.passwd() {
		if _, taken := n.users[user.UID]; !taken {
			n.users[user.UID] = user.Name
		}
	}
	for g := range u.group() {
		if _, taken := n.groups[g.gid]; !taken {
			n.groups[g.gid] = g.name
		}
	}
	return n
}

// User returns the name of a uid, its digits if it has none.
func (n Names) User(uid uint32) string { return nameOf(n.users, uid) }

// Group returns the name of a gid, its digits if it has none.
func (n Names) Group(gid uint32) string { return nameOf(n.groups, gid) }

func nameOf(names map[uint32]string, id uint32) string {
	if name, ok := names[id]; ok {
		return name
	}
	return fmt.Sprint(id)
}

func (u Users) find(name string) (User, bool) {
	for user := range u.passwd() {
		if user.Name == name {
			return user, true
		}
	}
	return User{}, false
}

// maxGroups bounds what a hostile group file can make of one user. The kernel
// takes 65536 (NGROUPS_MAX); nobody has a thousand.
const maxGroups = 1024

func (u Users) groups(user User) []uint32 {
	ids := []uint32{user.GID}
	for g := range u.group() {
		if len(ids) < maxGroups && slices.Contains(g.members, user.Name) && !slices.Contains(ids, g.gid) {
			ids = append(ids, g.gid)
		}
	}
	return ids
}
