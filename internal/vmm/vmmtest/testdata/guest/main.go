// Command guest is a tiny guest for tests of drivers: as /init it loads the
// drivers of the devices and then answers lines on the guest channel.
//
// It has one process and one goroutine, so whatever it is asked for it does
// before it reads the next line.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		must(unix.Mount(m[0], m[1], m[0], 0, ""))
	}
	modules, err := filepath.Glob("/modules/*.ko")
	must(err)
	for _, path := range modules {
		f, err := os.Open(path)
		must(err)
		must(unix.FinitModule(int(f.Fd()), "", 0))
		f.Close()
	}
	g := &guest{port: openPort()}
	fmt.Println("guest is up")
	for {
		g.serve()
		time.Sleep(time.Millisecond) // no host: the port reads as ended until one comes
	}
}

// openPort waits for the port: the device comes before it can be opened.
func openPort() *os.File {
	for {
		ports, _ := filepath.Glob("/dev/vport*")
		if len(ports) > 0 {
			if f, err := os.OpenFile(ports[0], os.O_RDWR, 0); err == nil {
				return f
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// guest is what a machine remembers.
type guest struct {
	port  *os.File
	in    *bufio.Reader
	count int
}

// serve answers until there is no host.
func (g *guest) serve() {
	g.in = bufio.NewReader(g.port)
	for {
		line, err := g.in.ReadString('\n')
		if err != nil {
			return
		}
		cmd, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintln(g.port, g.answer(cmd, arg))
	}
}

func (g *guest) answer(cmd, arg string) string {
	n, _ := strconv.Atoi(arg)
	switch cmd {
	case "echo":
		return arg
	case "count":
		g.count++
		return fmt.Sprint(g.count)
	case "write":
		return disk(func(f *os.File) (string, error) {
			_, err := f.WriteAt(fmt.Appendf(nil, "%-512s", arg), 1<<20)
			return "ok", err
		})
	case "read":
		return disk(func(f *os.File) (string, error) {
			b := make([]byte, 512)
			_, err := f.ReadAt(b, 1<<20)
			return strings.TrimSpace(string(b)), err
		})
	case "work": // write to memory, n MiB in all
		fmt.Fprintln(g.port, "working")
		for block := make([]byte, 1<<20); n > 0; n-- {
			for i := range block {
				block[i]++
			}
		}
		return "ok"
	case "devices":
		return devices()
	case "stream": // lines out
		return g.stream(n)
	case "sum": // bytes in
		sum := sha256.New()
		io.CopyN(sum, g.in, int64(n))
		return fmt.Sprintf("%x", sum.Sum(nil))
	case "absent": // wait until the host has gone, then talk
		fmt.Fprintln(g.port, "going")
		io.Copy(io.Discard, g.in)
		fmt.Println("nobody is there")
		return g.stream(n)
	case "flood":
		block := strings.Repeat("x", 1023) + "\n"
		for range n {
			io.WriteString(os.Stdout, block)
		}
		return "ok"
	}
	return end(cmd)
}

// stream writes n numbered lines of 16 bytes.
func (g *guest) stream(n int) string {
	out := bufio.NewWriterSize(g.port, 4000)
	for i := range n {
		fmt.Fprintf(out, "line %010d\n", i)
	}
	return reply(out.Flush())
}

// devices lists virtio devices by their number in the specification, and
// whatever is on a bus that a guest has no use for.
func devices() string {
	var all []string
	ids, _ := filepath.Glob("/sys/bus/virtio/devices/*/device")
	for _, f := range ids {
		b, _ := os.ReadFile(f)
		all = append(all, strings.TrimSpace(string(b)))
	}
	for _, bus := range []string{"pci", "usb", "scsi"} {
		found, _ := filepath.Glob("/sys/bus/" + bus + "/devices/*")
		for _, d := range found {
			all = append(all, bus+":"+filepath.Base(d))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func end(how string) string {
	switch how {
	case "poweroff":
		return reply(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	case "reboot":
		return reply(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	case "panic":
		return reply(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	}
	return "what?"
}

func disk(do func(*os.File) (string, error)) string {
	f, err := os.OpenFile("/dev/vda", os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	s, err := do(f)
	if err != nil {
		return err.Error()
	}
	return s
}

func reply(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func must(err error) {
	if err != nil {
		fmt.Println("guest:", err)
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}
