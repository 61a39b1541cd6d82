package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"bulkhead/internal/daemon/store"
	"bulkhead/internal/egress"
	"bulkhead/internal/egress/binding"
	"bulkhead/internal/egress/policy"
	"bulkhead/internal/guest"
	"bulkhead/internal/image"
	"bulkhead/internal/image/oci"
	"bulkhead/internal/sandbox/live"
	"bulkhead/internal/secret"
	"bulkhead/proto/machine"

	"golang.org/x/sys/unix"
)

// perimeter makes the perimeter of all sandboxes. guests leads to those that
// run.
func (d *Daemon) perimeter(log store.Events, vault *secret.Vault, guests func() *heart) (*egress.Perimeter, error) {
	// By reference, so that sandboxes have what a later release adds.
	preset, err := policy.Parse([]byte("version: 1\nuse: [" + d.Config.Egress + "]\n"))
	if err != nil {
		return nil, fmt.Errorf("egress of new sandboxes: %w", err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("limit of open files: %w", err)
	}
	return egress.New(egress.Config{
		Dir: filepath.Join(d.Config.StateDir, "egress"), LinkPath: d.linkPath, Default: preset,
		// A quarter is for all that is not a guest's connection.
		Descriptors: int(min(files.Cur, 1<<30)) / 4 * 3,
		AskLimit:    time.Duration(d.Config.EgressAskSeconds) * time.Second,
		Out:         d.out(), Event: log.Append, Clock: d.Clock, Log: d.Log,
		Tell: func(ctx context.Context, id string, denials []byte) error {
			return putDenials(ctx, guests(), id, denials)
		},
		Contact: func(ctx context.Context, id, destination string) { guests().guard.Contact(ctx, id, destination) },
		Secret:  vault.Get, Roots: d.Roots,
		Inside: func(ctx context.Context, id string, may func(string) bool, conn net.Conn) {
			guests().inside.Serve(ctx, id, may, conn)
		},
		Entrust: func(ctx context.Context, id string, t binding.Trust) error {
			transport, err := guests().Transport(ctx, id)
			if err != nil {
				return err
			}
			return guest.Entrust(ctx, transport, trustOf(t))
		},
	}), nil
}

// putDenials writes the list of its denials into a guest, which runs. That is no
// use of it: whatever asks in vain now and then would never be idle.
func putDenials(ctx context.Context, h *heart, id string, denials []byte) error {
	const file = "/run/bulkhead/denied.json"
	transport, err := h.Probe(ctx, id)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://guest/files?"+url.Values{"path": {file}}.Encode(), bytes.NewReader(denials))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.SetBasicAuth("root", "")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("write %s: %s", file, resp.Status)
	}
	return nil
}

// linkPath is where the network of a machine is pinned.
func (d *Daemon) linkPath(id string) string { return filepath.Join(d.runDir(), id, "netns") }

// networks is the heart's Network.
type networks struct{ *egress.Perimeter }

func (n networks) Open(ctx context.Context, id string) (live.Link, error) {
	return orNilLink(n.Perimeter.Open(ctx, id))
}

func (n networks) Attach(ctx context.Context, id string) (live.Link, error) {
	return orNilLink(n.Perimeter.Attach(ctx, id))
}

// orNilLink keeps a nil *egress.Link from becoming a live.Link that is not nil.
func orNilLink(l *egress.Link, err error) (live.Link, error) {
	if err != nil {
		return nil, err
	}
	return trustedLink{l}, nil
}

// trustedLink speaks of trust in the words of the guest channel.
type trustedLink struct{ *egress.Link }

func (l trustedLink) Trust() *machine.Trust { return trustOf(l.Link.Trust()) }

// trustOf is nil for a guest that has never had anything: it would only cost
// its agent time.
func trustOf(t binding.Trust) *machine.Trust {
	if t.Root == nil && t.Env == nil {
		return nil
	}
	return &machine.Trust{Root: t.Root, Link: t.Link, Env: t.Env}
}

// out is the way out of the host.
func (d *Daemon) out() egress.Out {
	if d.Out == nil {
		return egress.Host{}
	}
	return d.Out
}

// images makes what templates are built of.
func (d *Daemon) images() (store.Images, error) {
	registries, err := oci.Registries(d.Config.Registries)
	if err != nil {
		return store.Images{}, err
	}
	b := &image.Builder{Cache: d.Config.CacheDir}
	return store.Images{
		Builder: b, Agent: d.Config.GuestAgent,
		Puller: &oci.Puller{Images: b, Registries: registries, Out: d.out(), Closed: egress.Closed},
	}, nil
}
