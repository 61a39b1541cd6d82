package ssh

import (
	"context"
	"io"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
)

// direct is what a client says of a port that it wants to reach (RFC 4254,
// section 7.2).
type direct struct {
	Host     string
	Port     uint32
	FromHost string
	FromPort uint32
}

// forward carries a connection of the client's to a port of the guest. Nothing
// else can be reached: the guest's own way out has rules of its own.
func (c *connection) forward(ctx context.Context, asked ssh.NewChannel) {
	var to direct
	if err := ssh.Unmarshal(asked.ExtraData(), &to); err != nil {
		c.reject(asked, ssh.ConnectionFailed, "the request is malformed")
		return
	}
	switch {
	case c.refusal != nil:
		c.reject(asked, ssh.ConnectionFailed, c.refusal.Error())
		return
	case !slices.Contains([]string{"localhost", "127.0.0.1", "::1", "ip6-localhost"}, to.Host):
		c.reject(asked, ssh.Prohibited, "only ports of the sandbox's own localhost can be reached")
		return
	case to.Port == 0 || to.Port > 1<<16-1:
		c.reject(asked, ssh.ConnectionFailed, "that is no port")
		return
	}
	port, err := c.api.DialPort(ctx, c.who.machine, uint16(to.Port))
	if err != nil {
		c.reject(asked, ssh.ConnectionFailed, err.Error())
		return
	}
	defer port.Close()
	channel, requests, err := asked.Accept()
	if err != nil {
		return // the client is gone
	}
	defer channel.Close()
	var carried sync.WaitGroup
	defer carried.Wait()
	carried.Go(func() { ssh.DiscardRequests(requests) })
	carried.Go(func() {
		if _, err := io.Copy(port, channel); err != nil {
			port.Close()
			return
		}
		_ = port.CloseWrite() // whoever is gone has been told
	})
	if _, err := io.Copy(channel, port); err != nil {
		c.cutIfGone(ctx)
	}
	channel.Close()
}
