package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"bulkhead/internal/image/layer"
)

// maxAccounts bounds each file of accounts, far above any real one.
const maxAccounts = 1 << 20

// user is the account that every machine has, and firstID the least number for
// it, which images for containers may have given away.
const (
	user    = "user"
	firstID = 1000
)

// addUser adds the user that every machine has, as useradd does, but with no
// program of the tree: its files are a stranger's. An image that has one of that
// name keeps it.
func addUser(root *os.Root) error {
	passwd, err := readAccounts(root, "etc/passwd")
	if errors.Is(err, fs.ErrNotExist) {
		passwd = "root:x:0:0:root:/root:/bin/sh\n"
		err = root.WriteFile("etc/passwd", []byte(passwd), 0o644)
	}
	if err != nil {
		return err
	}
	if hasAccount(passwd, user) {
		return nil
	}
	group, err := readAccounts(root, "etc/group")
	if errors.Is(err, fs.ErrNotExist) {
		group = "root:x:0:\n"
		err = root.WriteFile("etc/group", []byte(group), 0o644)
	}
	if err != nil {
		return err
	}
	id := freeID(passwd, group)
	shell := "/bin/sh"
	if bin, err := layer.Resolve(root, "bin"); err == nil {
		if _, err := root.Lstat(path.Join(bin, "bash")); err == nil {
			shell = "/bin/bash"
		}
	}
	home := path.Join("/home", user)
	if err := errors.Join(
		appendAccount(root, "etc/passwd", passwd, fmt.Sprintf("%s:x:%d:%d::%s:%s", user, id, id, home, shell)),
		appendAccount(root, "etc/group", group, fmt.Sprintf("%s:x:%d:", user, id)),
	); err != nil {
		return err
	}
	// "!" is no password: nobody logs in with one (shadow(5)).
	for file, line := range map[string]string{"etc/shadow": user + ":!:19000:0:99999:7:::", "etc/gshadow": user + ":!::"} {
		content, err := readAccounts(root, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err, appendAccount(root, file, content, line)); err != nil {
			return err
		}
	}
	return makeHome(root, home, id)
}

func makeHome(root *os.Root, home string, id int) error {
	p, err := layer.Resolve(root, home)
	if err != nil {
		return err
	}
	return errors.Join(root.MkdirAll(p, 0o755), root.Chown(p, id, id), root.Chmod(p, 0o755))
}

// readAccounts reads a file of accounts. A link to outside of the tree is an
// error.
func readAccounts(root *os.Root, file string) (string, error) {
	fi, err := root.Stat(file)
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxAccounts {
		return "", fmt.Errorf("/%s is not a file of at most %d bytes", file, maxAccounts)
	}
	content, err := root.ReadFile(file)
	return string(content), err
}

func appendAccount(root *os.Root, file, content, line string) error {
	if content != "" && !strings.HasSuffix(content, "\n") {
		line = "\n" + line
	}
	// Appended, so that the file keeps its owner and rights.
	f, err := root.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

func hasAccount(content, name string) bool {
	for line := range strings.Lines(content) {
		if strings.HasPrefix(line, name+":") {
			return true
		}
	}
	return false
}

// freeID returns the least number from firstID up that is neither a user's nor
// a group's.
func freeID(files ...string) int {
	taken := map[int]bool{}
	for _, content := range files {
		for line := range strings.Lines(content) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			for _, f := range fields[min(2, len(fields)):min(4, len(fields))] {
				if id, err := strconv.Atoi(f); err == nil {
					taken[id] = true
				}
			}
		}
	}
	id := firstID
	for taken[id] {
		id++
	}
	return id
}
