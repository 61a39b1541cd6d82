package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/client"

	"golang.org/x/crypto/ssh"
)

// version is what the server calls itself.
const version = "SSH-2.0-Bulkhead"

// maxAuthTries is how many keys may be tried in one connection; an agent of a
// user offers all that it has.
const maxAuthTries = 10

// refForm is what can name a sandbox.
var refForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// person is who has logged in, or tried to.
type person struct {
	// from is an address, user the name that was asked for.
	from, user string
	// fingerprint is that of the key, "" if none was shown.
	fingerprint string
	team        string
	key         ssh.PublicKey
	// machine is the id of the sandbox; "" if there is none of this name for the
	// team.
	machine string
}

// errUnknownKey is what every key is refused for.
var errUnknownKey = errors.New("key is not known")

// login takes a connection through the handshake. The caller closes what it
// returns.
func (s *Server) login(ctx context.Context, raw net.Conn) (*connection, error) {
	who := &person{from: raw.RemoteAddr().String()}
	cfg := &ssh.ServerConfig{
		ServerVersion: version,
		MaxAuthTries:  maxAuthTries,
		// Without SHA-1, whatever the library comes to think of it.
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256,
			ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			who.user, who.fingerprint = meta.User(), ssh.FingerprintSHA256(key)
			if len(s.Keys.Teams(key)) == 0 {
				return nil, errUnknownKey
			}
			return nil, nil
		},
		// What was offered last need not be what was proved.
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			who.user, who.fingerprint, who.key = meta.User(), ssh.FingerprintSHA256(key), key
			return p, nil
		},
	}
	cfg.AddHostKey(s.HostKey)
	if err := raw.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, cfg)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		var refused *ssh.ServerAuthError
		if errors.As(err, &refused) && who.fingerprint != "" {
			s.denied(ctx, who, "key not accepted")
		}
		return nil, fmt.Errorf("log in from %s: %w", who.from, err)
	}
	api, err := s.enter(ctx, who)
	if api == nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err != nil {
		s.denied(ctx, who, "no such sandbox")
	} else {
		s.Event(ctx, "ssh.login", who.machine, map[string]string{"from": who.from, "key": who.fingerprint, "team": who.team})
	}
	return &connection{
		Server: s, ServerConn: conn, channels: channels, requests: requests, who: who, api: api, refusal: err,
	}, nil
}

// enter finds the sandbox that somebody has asked for, in any of their teams. An
// error with an API is for them to read, once they ask for something. The API is
// the caller's to close.
func (s *Server) enter(ctx context.Context, who *person) (api Sandboxes, err error) {
	err = errUnknownKey // it was removed just now
	for _, team := range s.Keys.Teams(who.key) {
		if api != nil {
			api.Close()
		}
		api, who.team = s.As(team, who.fingerprint), team
		if !refForm.MatchString(who.user) {
			return api, fmt.Errorf("%s is no name of a sandbox", plain(who.user))
		}
		var box client.Sandbox
		if box, err = api.Sandbox(ctx, who.user); err == nil {
			who.machine = box.ID
			return api, nil
		}
	}
	return api, err
}

// denied records somebody who did not get in, unless too many do not.
func (s *Server) denied(ctx context.Context, who *person, reason string) {
	ok, left := s.door.tell()
	if !ok {
		return
	}
	fields := map[string]string{"from": who.from, "user": plain(who.user), "key": who.fingerprint, "reason": reason}
	if left > 0 {
		fields["unrecorded"] = strconv.Itoa(left)
	}
	s.Event(ctx, "ssh.denied", who.machine, fields)
}

// maxText bounds text that somebody has sent.
const maxText = 200

// plain makes a line of visible text.
func plain(s string) string {
	s = s[:min(len(s), maxText)]
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
