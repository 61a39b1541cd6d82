package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bulkhead/internal/pool/reflink"

	"golang.org/x/sys/unix"
)

// Host answers what the checks ask. Local is the real one.
type Host struct {
	// UID is the effective user's.
	UID int
	// Files is the file system from its root, /proc and /sys included.
	Files fs.FS
	// Open returns nil if a device can be opened for reading and writing.
	Open func(path string) error
	// Installed reports whether a program can be found.
	Installed func(program string) bool
	// Free returns how many bytes anybody may still write below a folder.
	Free func(dir string) (int64, error)
	// Reflink returns nil if files in a folder can share their data.
	Reflink func(dir string) error
	// Locked reports whether a process holds the lock file.
	Locked func(path string) bool
	// Pidfd and Nftables return nil if the kernel has the interface.
	Pidfd, Nftables func() error
}

// Local returns the host that this process runs on.
func Local() Host {
	return Host{
		UID:       os.Geteuid(),
		Files:     os.DirFS("/"),
		Open:      openDevice,
		Installed: installed,
		Free:      freeBytes,
		Reflink:   reflink.Probe,
		Locked:    locked,
		Pidfd:     pidfdOpen,
		Nftables:  nftablesAnswers,
	}
}

func openDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// installed looks where Debian puts programs: the user's own path may lack
// the sbin folders.
func installed(program string) bool {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// locked tries for a shared lock and gives it up at once. A daemon that starts
// within these microseconds would be refused.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func pidfdOpen() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// nftablesAnswers asks the kernel for the generation of its nftables rules.
// It loads the module if need be. Message and constants: linux/netlink.h,
// linux/netfilter/nfnetlink.h and nf_tables.h.
func nftablesAnswers() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const length = unix.SizeofNlMsghdr + 4 // and struct nfgenmsg, all zeros
	request := make([]byte, length)
	binary.NativeEndian.PutUint32(request, length)
	binary.NativeEndian.PutUint16(request[4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	// The kernel answers at once or never.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("netlink answer of %d bytes", n)
	}
	if binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		return unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])))
	}
	return nil
}

// read returns the content of a file below /proc or /sys without the white
// space at its end, "" if it cannot be read.
func (h Host) read(path string) string {
	b, err := fs.ReadFile(h.Files, relative(path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h Host) exists(path string) bool {
	_, err := fs.Stat(h.Files, relative(path))
	return err == nil
}

// above returns dir, or the nearest folder above it that exists.
func (h Host) above(dir string) string {
	for !h.exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

// relative turns an absolute path into one of an fs.FS.
func relative(path string) string {
	if path == "/" {
		return "."
	}
	return strings.TrimPrefix(path, "/")
}
