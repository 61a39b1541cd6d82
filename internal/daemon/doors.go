package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"bulkhead/internal/daemon/front"
	"bulkhead/internal/server"
	"bulkhead/internal/server/certs"
	"bulkhead/internal/server/entry"
	"bulkhead/internal/server/gate"
	"bulkhead/internal/server/page/session"
	"bulkhead/internal/server/quota"
)

// doors opens every way in that the configuration says. On error none is open.
func (d *Daemon) doors(ctx context.Context, f *front.Front, sessions *session.Sessions) (doors []server.Door, err error) {
	defer func() {
		if err != nil {
			for _, open := range doors {
				err = errors.Join(err, open.Close())
			}
		}
	}()
	l, err := entry.Unix(d.Config.Socket, d.Log)
	if err != nil {
		return nil, err
	}
	doors = append(doors, server.Door{Listener: l, Guard: server.Root})
	d.Log.InfoContext(ctx, "daemon serves", "socket", d.Config.Socket)

	g := &gate.Gate{Keys: f.Keys, Domain: d.Config.Domain, Origins: d.Config.Origins, Quota: quota.New(d.Config.Limits.Requests, time.Now), Log: d.Log}
	guard := func(next http.Handler) http.Handler { return sessions.Guard(g.Guard(next)) }
	if d.Config.Listen != "" {
		l, err := entry.Plain(ctx, d.Config.Listen)
		if err != nil {
			return doors, err
		}
		doors = append(doors, server.Door{Listener: l, Guard: guard})
		d.Log.InfoContext(ctx, "daemon serves", "url", "http://"+l.Addr().String())
	}
	if d.Config.ListenTLS != "" {
		cert, err := d.certificate(ctx)
		if err != nil {
			return doors, err
		}
		l, err := entry.TLS(ctx, d.Config.ListenTLS, cert)
		if err != nil {
			return doors, err
		}
		doors = append(doors, server.Door{Listener: l, Guard: guard})
		d.Log.InfoContext(ctx, "daemon serves", "url", "https://"+l.Addr().String(), "domain", d.Config.Domain)
		f.Domain = reached(d.Config.Domain, l.Addr())
	}
	return doors, nil
}

// reached is a domain with the port at which it is reached by TLS, unless that is
// the usual one; nil without a domain.
func reached(domain string, at net.Addr) *string {
	if domain == "" {
		return nil
	}
	if port := at.(*net.TCPAddr).Port; port != 443 {
		domain = net.JoinHostPort(domain, strconv.Itoa(port))
	}
	return &domain
}

// certificate is what is shown to those who come by TLS.
func (d *Daemon) certificate(ctx context.Context) (certs.Getter, error) {
	if d.Config.TLSCert != "" {
		return certs.Files(d.Config.TLSCert, d.Config.TLSKey)
	}
	dir := filepath.Join(d.Config.StateDir, "tls")
	d.Log.InfoContext(ctx, "clients must trust the host's own authority", "ca", filepath.Join(dir, certs.CAFile))
	return certs.Own(dir, d.Config.Domain, d.Clock)
}
