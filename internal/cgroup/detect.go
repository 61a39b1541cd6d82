package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Detect reads what this host has.
func Detect() (*Host, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parse(string(b))
}

// parse reads mountinfo (proc_pid_mountinfo(5)): "ID ID DEV ROOT POINT OPTIONS
// [FIELD…] - TYPE SOURCE OPTIONS". A mount with another root than "/" is a bind
// of somebody's group, whose limits would be on ours: one is taken only where
// there is nothing else, as in a container.
func parse(mountinfo string) (*Host, error) {
	h := &Host{version1: map[string]string{}}
	for _, whole := range []bool{true, false} {
		for line := range strings.Lines(mountinfo) {
			left, right, _ := strings.Cut(line, " - ")
			mount, kind := strings.Fields(left), strings.Fields(right)
			if len(mount) < 5 || len(kind) < 3 || (mount[3] == "/") != whole {
				continue
			}
			if err := h.mount(unescape(mount[4]), kind[0], kind[2]); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// mount takes note of a mount, unless what it gives is there already.
func (h *Host) mount(point, kind, options string) error {
	switch {
	case kind == "cgroup":
		for _, c := range strings.Split(options, ",") {
			if _, ok := h.version1[c]; !ok {
				h.version1[c] = point
			}
		}
	case kind == "cgroup2" && h.version2 == "":
		b, err := os.ReadFile(filepath.Join(point, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read controllers: %w", err)
		}
		h.version2, h.unified = point, strings.Fields(string(b))
	}
	return nil
}

// unescape undoes what the kernel does to white space and backslashes in a
// mount point: "\040" is a space.
func unescape(point string) string {
	return regexp.MustCompile(`\\[0-3][0-7]{2}`).ReplaceAllStringFunc(point, func(s string) string {
		n, _ := strconv.ParseUint(s[1:], 8, 8) // it is of such digits
		return string([]byte{byte(n)})
	})
}
