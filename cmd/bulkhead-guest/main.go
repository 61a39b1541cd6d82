// Command bulkhead-guest is everything of ours inside a guest: /init of the
// initramfs, the init of images that have none, the agent that the host
// speaks to, the server of files for SSH, and the commands by which a machine
// asks for its own snapshots.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkhead/internal/guestd/account"
	"bulkhead/internal/guestd/ask"
	"bulkhead/internal/guestd/boot"
	"bulkhead/internal/guestd/files"
	"bulkhead/internal/guestd/machine"
	"bulkhead/internal/guestd/ports"
	"bulkhead/internal/guestd/process"
	"bulkhead/internal/guestd/sftp"
	"bulkhead/internal/guestd/vitals"
	"bulkhead/internal/link"
	"bulkhead/proto/machine/machineconnect"
)

// defaultUser is who acts for clients that name nobody, as E2B's SDKs expect,
// unless the host says who does.
const defaultUser = "user"

// version is set by the linker.
var version = "0.0.0-dev"

func main() {
	process.StandIn()
	boot.Run()
	if len(os.Args) == 2 && os.Args[1] == sftp.Command {
		if err := sftp.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bulkhead-guest:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 {
		os.Exit(ask.Client{Base: ask.URL, Out: os.Stdout, Err: os.Stderr}.Run(context.Background(), os.Args[1:]))
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serve(context.Background(), log); err != nil {
		log.Error("agent ends", "err", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, log *slog.Logger) error {
	port, err := openPort("bulkhead")
	if err != nil {
		return err
	}
	freezer, err := machine.NewFreezer("/sys/fs/cgroup")
	if err != nil {
		return fmt.Errorf("set up freezer: %w", err)
	}
	m, err := machine.New(freezer, version, log)
	if err != nil {
		return err
	}
	if err := m.ShowGeneration(machine.GenerationFile); err != nil { // a damaged guest has to work too
		log.Warn("programs are not told when to reseed", "err", err)
	}
	users := account.Users{Default: func() string { return cmp.Or(m.User(), defaultUser) }}
	programs := process.New(process.Options{Users: users, Workdir: m.Workdir, Env: m.Env, Cgroup: freezer.Work})
	contents := files.New(files.Options{Users: users, Workdir: m.Workdir})
	mux := http.NewServeMux()
	mux.Handle(machineconnect.NewMachineHandler(m))
	mux.Handle(programs.Handler())
	mux.Handle(contents.Handler())
	mux.Handle("/files", contents.Contents())
	mux.Handle("/files/", contents.Contents())
	mux.Handle(ports.Path, ports.Handler())
	mux.Handle("/", vitals.Handler(m.Env))
	return link.Serve(ctx, port, func(l net.Listener) {
		s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
		s.Serve(l) // ends with the listener
		s.Close()
	})
}

// openPort opens the virtio-serial port of a name.
func openPort(name string) (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, f := range names {
		b, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(b)) == name {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(f)), os.O_RDWR, 0)
		}
	}
	return nil, errors.Join(fs.ErrNotExist, fmt.Errorf("no guest channel %q", name))
}
