package attack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// decoys are what attempts aim at: things like those of a daemon, made for
// this.
type decoys struct {
	target
	process *exec.Cmd
	stop    []func() error
}

func newDecoys(dir string) (d *decoys, err error) {
	d = &decoys{target: target{
		Secret: "/etc/shadow", Folder: filepath.Join(dir, "state"), Other: filepath.Join(dir, "state", "memory"),
		Socket: filepath.Join(dir, "socket"), Abstract: fmt.Sprintf("@bulkhead-attack-%d", os.Getpid()),
		Scratch: filepath.Join(dir, "scratch"), File: filepath.Join(dir, "scratch", "file"),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	for _, folder := range []string{d.Folder, d.Scratch} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return nil, err
		}
	}
	for _, file := range []string{d.Other, d.File} {
		if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
			return nil, err
		}
	}
	for _, address := range []string{d.Socket, d.Abstract} {
		if _, err := d.listen("unix", address); err != nil {
			return nil, err
		}
	}
	l, err := d.listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.Port = l.Addr().(*net.TCPAddr).Port
	// Its standard input never says anything, so it waits until it is ended.
	d.process = exec.Command("/bin/cat")
	in, err := d.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	d.stop = append(d.stop, func() error { return errors.Join(in.Close(), d.process.Wait()) })
	d.PID = d.process.Process.Pid
	return d, nil
}

// listen accepts and hangs up.
func (d *decoys) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	d.stop = append(d.stop, l.Close)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l, nil
}

func (d *decoys) close() (err error) {
	for _, stop := range d.stop {
		err = errors.Join(err, stop())
	}
	return err
}
