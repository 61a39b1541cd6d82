package files

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"bulkhead/internal/fault"
	"bulkhead/internal/guestd/fd"
)

const (
	// metadataHeader begins the headers that carry metadata of an upload.
	metadataHeader = "X-Metadata-"
	// metadataAttr begins the extended attributes that hold it.
	metadataAttr = "user.e2b."
	// maxMetadataKey: the kernel's limit for a name (XATTR_NAME_MAX, 255)
	// without the prefix.
	maxMetadataKey = 255 - len(metadataAttr)
	// maxMetadata bounds all of one file, prefixes included: ext4 keeps the
	// attributes of a file in one block.
	maxMetadata = 4096
	// maxNames is the kernel's limit for all names of a file (XATTR_LIST_MAX).
	maxNames = 64 << 10
)

// metadataOf returns the metadata that the headers of an upload carry: keys in
// lower case, the first value of each. The error is of kind invalid.
func metadataOf(h http.Header) (map[string]string, error) {
	meta := map[string]string{}
	total := 0
	for name, values := range h {
		key, ok := strings.CutPrefix(name, metadataHeader)
		if !ok || key == "" || len(values) == 0 {
			continue
		}
		key = strings.ToLower(key)
		if len(key) > maxMetadataKey {
			return nil, fault.New(fault.Invalid, "metadata key '%.32s…' is longer than %d bytes", key, maxMetadataKey)
		}
		if !printable(key) || !printable(values[0]) {
			return nil, fault.New(fault.Invalid, "metadata '%s' is not printable ASCII", key)
		}
		meta[key] = values[0]
		total += len(metadataAttr) + len(key) + len(values[0])
	}
	if total > maxMetadata {
		return nil, fault.New(fault.Invalid, "metadata takes %d bytes, more than %d", total, maxMetadata)
	}
	return meta, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// readMetadata returns the metadata of what path leads to, programs in the
// guest may have set it. What does not fit a message is left out, and so is
// all if the file system has no attributes.
func readMetadata(path string) map[string]string {
	n, err := unix.Listxattr(path, nil)
	if err != nil || n == 0 { // as for almost every file
		return nil
	}
	list := make([]byte, n)
	if n, err = unix.Listxattr(path, list); err != nil { // grown meanwhile
		return nil
	}
	meta := map[string]string{}
	value := make([]byte, maxMetadata)
	total := 0
	for attr := range strings.SplitSeq(string(list[:n]), "\x00") {
		key, ok := strings.CutPrefix(attr, metadataAttr)
		if !ok {
			continue
		}
		n, err := unix.Getxattr(path, attr, value)
		if err != nil || !utf8.ValidString(key) || !utf8.Valid(value[:n]) {
			continue
		}
		if total += len(attr) + n; total > maxMetadata {
			break
		}
		meta[key] = string(value[:n])
	}
	return meta
}

// writeMetadata makes meta all the metadata of f. A file system without
// attributes, such as procfs, is no error: the answer then shows none.
func writeMetadata(f *os.File, meta map[string]string) error {
	err := fd.Use(f, func(fd int) error {
		list := make([]byte, maxNames)
		n, err := unix.Flistxattr(fd, list)
		if err != nil {
			return err
		}
		for attr := range strings.SplitSeq(string(list[:n]), "\x00") {
			key, ours := strings.CutPrefix(attr, metadataAttr)
			if _, kept := meta[key]; ours && !kept {
				if err := unix.Fremovexattr(fd, attr); err != nil {
					return err
				}
			}
		}
		for key, value := range meta {
			if err := unix.Fsetxattr(fd, metadataAttr+key, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}
