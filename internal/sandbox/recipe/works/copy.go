package works

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"bulkhead/internal/sandbox/recipe"
)

// unpack lays down the files of a COPY: archive, destination, owner, mode,
// path within the archive, "within" if its content is meant, and what tar needs
// for its form. A folder that is there gets more in it; one that is not there is
// the owner's.
const unpack = `set -e
archive=$1 dest=$2 owner=$3 mode=$4 item=./$5 within=$6
dir=$(mktemp -d /var/tmp/bulkhead.XXXXXX)
trap 'rm -rf "$dir" "$archive"' EXIT
tar -x"$7"of "$archive" -C "$dir"
cd "$dir"
if [ ! -e "$item" ] && [ ! -L "$item" ]; then
	echo "$5 is not among the files that came" >&2
	exit 1
fi
chown -hR "$owner" "$item"
if [ -n "$mode" ] && [ ! -L "$item" ]; then
	if [ -z "$within" ]; then chmod -R "$mode" "$item"
	else find "$item" -mindepth 1 -maxdepth 1 ! -type l -exec chmod -R "$mode" {} +
	fi
fi
if [ -n "$within" ] || { [ -d "$item" ] && [ ! -L "$item" ]; }; then
	[ -d "$dest" ] || { mkdir -p -- "$dest"; chown "$owner" -- "$dest"; }
	find "$item" -mindepth 1 -maxdepth 1 -exec cp -a -- {} "$dest/" \;
else
	case $dest in */) mkdir -p -- "$dest" ;; *) mkdir -p -- "$(dirname -- "$dest")" ;; esac
	cp -a -- "$item" "$dest"
fi`

func (j *job) copy(ctx context.Context, s recipe.Step) error {
	f, err := j.Files.Open(j.build.Team, s.Files)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, 2)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	form := ""
	if bytes.Equal(head, []byte{0x1f, 0x8b}) { // RFC 1952: gzip
		form = "z"
	}
	dest, err := j.absolute(ctx, s.Args[1])
	if err != nil {
		return err
	}
	who, err := j.who(ctx)
	if err != nil {
		return err
	}
	archive := "/var/tmp/bulkhead-" + s.Files[:16] + ".tar"
	if err := j.send(ctx, archive, f, fi.Size()); err != nil {
		return fmt.Errorf("bring the files: %w", err)
	}
	src, within := s.Source(), ""
	if src.Within {
		within = "within"
	}
	if _, err := j.script(ctx, "/", unpack, archive, dest, s.Owner(who), s.Mode(), src.Path, within, form); err != nil {
		return fmt.Errorf("copy '%s' to '%s': %w", s.Args[0], s.Args[1], err)
	}
	return nil
}

// send writes a file into the machine.
func (j *job) send(ctx context.Context, to string, content io.Reader, size int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/files?"+url.Values{"path": {to}}.Encode(), content)
	if err != nil {
		return err
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", "application/octet-stream")
	resp, err := j.way(root).RoundTrip(r)
	if err != nil {
		return told{err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	if err != nil {
		return told{err}
	}
	return nil
}
