// Package vitals tells how the guest is: alive at all, and how much of its
// CPUs, memory and disk it uses.
//
// The numbers are the guest kernel's and so the guest's word; the host must
// not rely on them. vitals knows no other service. Everything in it is safe
// for concurrent use.
package vitals

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Vitals are the counters of one moment. Sizes are bytes.
type Vitals struct {
	Time     time.Time
	CPUs     int
	CPUBusy  time.Duration // since boot, all CPUs together
	MemTotal uint64
	MemUsed  uint64 // what programs could not get
	MemCache uint64 // page cache and reclaimable slabs
	DiskUsed uint64 // of the file system at /
	Disk     uint64 // its size
}

// Read returns the counters of now.
func Read() (Vitals, error) {
	v := Vitals{Time: time.Now(), CPUs: runtime.NumCPU()}
	busy, err := readBusy()
	if err != nil {
		return v, err
	}
	v.CPUBusy = busy
	mem, err := readMemory()
	if err != nil {
		return v, err
	}
	v.MemTotal = mem["MemTotal"]
	v.MemUsed = v.MemTotal - min(mem["MemAvailable"], v.MemTotal)
	v.MemCache = mem["Cached"] + mem["SReclaimable"]
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return v, fmt.Errorf("read size of /: %w", err)
	}
	v.Disk = st.Blocks * uint64(st.Bsize)
	v.DiskUsed = (st.Blocks - st.Bfree) * uint64(st.Bsize)
	return v, nil
}

// readBusy adds up what the first line of /proc/stat counts, without the
// columns idle and iowait, and without guest time, which is in user time
// already (proc_stat(5)).
func readBusy() (time.Duration, error) {
	text, err := read("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	const hertz = 100 // USER_HZ of every Linux that Go runs on
	var ticks uint64
	for i, field := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // "cpu", idle, iowait, guest times
			continue
		}
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / hertz), nil
}

// readMemory returns the lines of /proc/meminfo in bytes.
func readMemory() (map[string]uint64, error) {
	text, err := read("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	mem := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
		if err == nil {
			mem[name] = kb << 10
		}
	}
	return mem, nil
}

// read reads a file of procfs, of which the first page holds what is wanted.
func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(data), nil
}

// Handler serves GET /health, /metrics and /envs; env returns the variables
// that every program gets, nil means none.
func Handler(env func() map[string]string) http.Handler {
	m := &meter{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		v, err := Read()
		if err != nil {
			answer(w, http.StatusInternalServerError,
				map[string]any{"code": http.StatusInternalServerError, "message": err.Error()})
			return
		}
		answer(w, http.StatusOK, metrics(v, m.percent(v)))
	})
	mux.HandleFunc("GET /envs", func(w http.ResponseWriter, _ *http.Request) {
		vars := map[string]string{}
		if env != nil && env() != nil {
			vars = env()
		}
		answer(w, http.StatusOK, vars)
	})
	return mux
}

// metrics has the names that clients know.
func metrics(v Vitals, percent float64) map[string]any {
	const mib = 1 << 20
	return map[string]any{
		"ts":            v.Time.Unix(),
		"cpu_count":     v.CPUs,
		"cpu_used_pct":  percent,
		"mem_total":     v.MemTotal,
		"mem_used":      v.MemUsed,
		"mem_cache":     v.MemCache,
		"mem_total_mib": v.MemTotal / mib,
		"mem_used_mib":  v.MemUsed / mib,
		"disk_used":     v.DiskUsed,
		"disk_total":    v.Disk,
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the client has gone
}

// meter turns counters into use: how busy the CPUs were since it was read
// last.
type meter struct {
	mu   sync.Mutex
	last Vitals // guarded by mu
}

// percent returns 0 to 100 of all CPUs with two decimals, 0 the first time.
func (m *meter) percent(now Vitals) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last
	m.last = now
	span := now.Time.Sub(last.Time) * time.Duration(now.CPUs)
	if last.Time.IsZero() || span <= 0 {
		return 0
	}
	pct := 100 * float64(now.CPUBusy-last.CPUBusy) / float64(span)
	return math.Round(100*min(max(pct, 0), 100)) / 100
}
