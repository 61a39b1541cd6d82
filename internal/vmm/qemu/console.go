package qemu

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The console's files in the run directory: the current one and the one
// before it.
const (
	ConsoleFile    = "console.log"
	ConsoleOldFile = "console.log.1"
)

// consoleMax is when the current file becomes the old one, in bytes. A guest
// can fill both, so together they bound what it can take.
const consoleMax = 256 << 10

// console copies a guest's console to files. While nobody copies, QEMU drops
// what the guest prints, so a guest is never held up by us being gone.
type console struct {
	conn net.Conn
	dir  string
	// spoke is closed with the first byte.
	spoke chan struct{}
	done  chan struct{}
	// hurry is closed when the VMM has ended: what is left is copied at once.
	hurry chan struct{}
	// room is how many bytes may be copied at once, since paced.
	room  int
	paced time.Time

	mu   sync.Mutex
	tail []byte // guarded by mu; the last few bytes
}

const tailMax = 4 << 10

// A console is copied at paceRate bytes a second, after a burst of paceBurst.
// A boot prints 30 KB. A flood comes byte by byte, at 120 KiB/s in a
// translator, and following it takes half a CPU: paceWait lets bytes gather.
const (
	paceRate  = 32 << 10
	paceBurst = 128 << 10
	paceWait  = 10 * time.Millisecond
)

func openConsole(runDir string) (*console, error) {
	conn, err := net.Dial("unix", filepath.Join(runDir, consoleSocket))
	if err != nil {
		return nil, fmt.Errorf("connect to console: %w", err)
	}
	c := &console{conn: conn, dir: runDir, spoke: make(chan struct{}), done: make(chan struct{}), hurry: make(chan struct{})}
	go c.copy()
	return c, nil
}

func (c *console) copy() {
	defer close(c.done)
	var f *os.File
	var size int64
	buf := make([]byte, 16<<10)
	spoke := false
	for {
		n, err := c.conn.Read(buf)
		if n > 0 {
			if !spoke {
				spoke = true
				close(c.spoke)
			}
			c.remember(buf[:n])
			f, size = c.write(f, size, buf[:n])
			c.pace(n)
		}
		if err != nil {
			break
		}
	}
	if f != nil {
		f.Close()
	}
}

// pace holds up a guest that floods its console: it waits as soon as QEMU's
// buffers are full, and costs nobody else the time to copy what nobody reads.
func (c *console) pace(n int) {
	now := time.Now()
	c.room = min(paceBurst, c.room+int(now.Sub(c.paced).Seconds()*paceRate)) - n
	c.paced = now
	if c.room < 0 {
		select {
		case <-time.After(max(paceWait, time.Duration(-c.room)*time.Second/paceRate)):
		case <-c.hurry:
		}
	}
}

// write appends to the current file, rotating it when it is full. A disk
// that takes nothing costs the console, nothing else.
func (c *console) write(f *os.File, size int64, p []byte) (*os.File, int64) {
	path := filepath.Join(c.dir, ConsoleFile)
	if f != nil && size >= consoleMax {
		f.Close()
		f = nil
		if err := os.Rename(path, filepath.Join(c.dir, ConsoleOldFile)); err != nil {
			os.Remove(path)
		}
	}
	if f == nil {
		var err error
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return nil, 0
		}
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
	}
	n, err := f.Write(p)
	if err != nil {
		f.Close()
		return nil, 0
	}
	return f, size + int64(n)
}

func (c *console) remember(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, p...)
	if over := len(c.tail) - tailMax; over > 0 {
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
}

// Tail is the last of what the guest printed since we listen.
func (c *console) Tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.tail)
}

// Close stops copying and waits until what was printed is in the file. After
// the VMM's end there is nothing more to come, so it does not cut anything.
func (c *console) Close() error {
	close(c.hurry)
	<-c.done
	return c.conn.Close()
}

// Tail returns the last n bytes of a file as valid UTF-8, "" if it cannot be
// read.
func Tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	if err != nil {
		return ""
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}
