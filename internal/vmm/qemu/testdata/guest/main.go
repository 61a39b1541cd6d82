// Command guest is a tiny guest for the driver's tests: as /init it loads the
// drivers and then answers lines on the guest channel.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	port := openPort()
	fmt.Println("guest is up")
	for count := 0; ; {
		lines := bufio.NewScanner(port)
		for lines.Scan() {
			cmd, arg, _ := strings.Cut(lines.Text(), " ")
			fmt.Fprintln(port, answer(cmd, arg, &count))
		}
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

func answer(cmd, arg string, count *int) string {
	switch cmd {
	case "echo":
		return arg
	case "count":
		*count++
		return fmt.Sprint(*count)
	case "write":
		return disk(func(f *os.File) (string, error) {
			_, err := f.WriteAt([]byte(fmt.Sprintf("%-512s", arg)), 1<<20)
			return "ok", err
		})
	case "read":
		return disk(func(f *os.File) (string, error) {
			b := make([]byte, 512)
			_, err := f.ReadAt(b, 1<<20)
			return strings.TrimSpace(string(b)), err
		})
	case "devices":
		ids, _ := filepath.Glob("/sys/bus/virtio/devices/*/device")
		var all []string
		for _, f := range ids {
			b, _ := os.ReadFile(f)
			all = append(all, strings.TrimSpace(string(b)))
		}
		return strings.Join(all, " ")
	case "flood":
		block := strings.Repeat("x", 4095) + "\n"
		for range 1200 { // 4.9 MB
			io.WriteString(os.Stdout, block)
		}
		return "ok"
	case "poweroff":
		must(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	case "reboot":
		must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	case "panic":
		must(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
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

func must(err error) {
	if err != nil {
		fmt.Println("guest:", err)
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}
