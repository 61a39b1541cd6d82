package ssh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"
	"bulkhead/internal/fault"

	"github.com/spf13/cobra"
)

// folder holds what is ours beside the client's own configuration.
const folder = "bulkhead"

type configOptions struct{ dir, host string }

// NewConfig returns the command that writes the client's configuration.
func NewConfig(a *app.App) *cobra.Command {
	var o configOptions
	c := &cobra.Command{
		Use:   "ssh-config",
		Short: "Write what ssh needs to reach sandboxes by name",
		Long: "Write the SSH client's configuration, so that ssh NAME.bulkhead, scp, rsync and editors\n" +
			"reach each sandbox that there is now, and know this host by its key. It goes into\n" +
			"bulkhead/ in the folder, and one line into the file config there that includes it.",
		Example: "  bulkhead ssh-config\n  ssh otter.bulkhead",
		Args:    cobra.NoArgs,
		RunE:    a.Ask(func(ctx context.Context, _ []string) error { return runConfig(ctx, a, o) }),
	}
	c.Flags().StringVar(&o.dir, "dir", "", "folder of the client's configuration (~/.ssh)")
	c.Flags().StringVar(&o.host, "host", "", "name or address of this host for the client (the one that is served)")
	return c
}

// written is the answer.
type written struct {
	client.SSHInfo
	File string `json:"file"`
	// Names are the sandboxes that NAME.bulkhead leads to.
	Names []string `json:"names"`
}

func runConfig(ctx context.Context, a *app.App, o configOptions) error {
	info, err := a.API.SSH(ctx)
	if err != nil {
		return err
	}
	if info.Address == "" {
		return fault.New(fault.Unavailable, "this host serves no SSH").
			Hint("bulkhead serve --ssh 127.0.0.1:2222, or ssh: 127.0.0.1:2222 in its configuration")
	}
	if o.dir == "" {
		home := a.Getenv("HOME")
		if home == "" {
			return fault.New(fault.Invalid, "HOME is not set").Hint("name the folder: --dir")
		}
		o.dir = filepath.Join(home, ".ssh")
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	boxes, err := a.API.Sandboxes(ctx)
	if err != nil {
		return err
	}
	names := []string{}
	for _, b := range boxes {
		if nameForm.MatchString(b.Name) {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names) // teams may have the same; a key knows its own
	text, err := configuration(o, info, names)
	if err == nil {
		err = lay(o.dir, text, "bulkhead "+info.HostKey+"\n")
	}
	if err != nil {
		return err
	}
	answer := written{info, filepath.Join(o.dir, folder, "config"), names}
	return a.Answer(answer, func(w io.Writer) {
		for _, name := range names {
			fmt.Fprintf(w, "ssh %s.bulkhead\n", show.OneLine(name))
		}
		a.Say("wrote %s; this host's key is %s", answer.File, info.Fingerprint)
	})
}

// What a daemon says goes into files in which a line is a command to run
// (ProxyCommand), or a pattern of other hosts' names. Another host's daemon may be
// anybody's.
var (
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	hostForm = regexp.MustCompile(`^[A-Za-z0-9.:_-]*$`)
	portForm = regexp.MustCompile(`^[0-9]{1,5}$`)
	keyForm  = regexp.MustCompile(`^[a-z0-9@.-]{1,64} [A-Za-z0-9+/=]+$`)
)

// configuration is the text of ssh_config(5).
func configuration(o configOptions, info client.SSHInfo, names []string) (string, error) {
	host, port, err := net.SplitHostPort(info.Address)
	if err == nil && !(hostForm.MatchString(host) && portForm.MatchString(port)) {
		err = errors.New("that is no address")
	}
	if err == nil && !keyForm.MatchString(info.HostKey) {
		err = errors.New("its key is no key")
	}
	if err != nil {
		return "", fmt.Errorf("the daemon serves SSH at %q: %w", info.Address, err)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	var b strings.Builder
	b.WriteString("# Written by bulkhead ssh-config, and written anew by the next one.\n")
	for _, name := range names {
		fmt.Fprintf(&b, "\nHost %s.bulkhead\n    User %s\n", name, name)
	}
	fmt.Fprintf(&b, `
Host *.bulkhead
    HostName %s
    Port %s
    HostKeyAlias bulkhead
    UserKnownHostsFile "%s"
    StrictHostKeyChecking yes
    ForwardAgent no
    ForwardX11 no
    PasswordAuthentication no
`, cmp.Or(o.host, host), port, filepath.Join(o.dir, folder, "known_hosts"))
	return b.String(), nil
}

// lay writes both files and includes the first. They hold nothing secret, and
// may be for somebody else than who writes them.
func lay(dir, config, knownHosts string) error {
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
		return err
	}
	return errors.Join(
		replace(filepath.Join(dir, folder, "known_hosts"), []byte(knownHosts)),
		replace(filepath.Join(dir, folder, "config"), []byte(config)),
		includeIn(filepath.Join(dir, "config"), filepath.Join(dir, folder, "config")),
	)
}

// includeIn has a configuration take in ours, before anything else: what comes
// after Host is for that host only (ssh_config(5)).
func includeIn(path, ours string) error {
	include := fmt.Sprintf("Include %q", ours) // a relative one would be below ~/.ssh
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range bytes.Lines(old) {
		if string(bytes.TrimSpace(line)) == include {
			return nil
		}
	}
	return replace(path, append([]byte(include+"\n\n"), old...))
}

// replace writes a file in one step. One that was there keeps its owner and
// mode, and a link to it stays one.
func replace(path string, content []byte) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bulkhead-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // renamed: it is not there
	_, err = f.Write(content)
	mode := fs.FileMode(0o644)
	if fi, serr := os.Stat(path); serr == nil {
		mode = fi.Mode().Perm()
		st := fi.Sys().(*syscall.Stat_t)
		err = errors.Join(err, f.Chown(int(st.Uid), int(st.Gid)))
	}
	return errors.Join(err, f.Chmod(mode), f.Close(), os.Rename(f.Name(), path))
}
