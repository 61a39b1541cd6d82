package desk_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"bulkhead/client"
	"bulkhead/internal/server/page/desk"

	"github.com/google/go-cmp/cmp"
)

// record is what grep prints of one file.
func record(file, text string) string { return file + ":" + text + "\x00" }

const statTail = " 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 10000 1000000 256 18446744073709551615"

func TestParsePrograms(t *testing.T) {
	tcp := "  sl  local_address rem_address   st\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 00000000:0016 00000000:0000 0A 0\n   2: 0100007F:0016 0100007F:D431 01 0\n"
	out := record("/proc/uptime", "1000.50 900.00\n") +
		record("/proc/1/stat", "1 (init) S 0"+statTail+"\n") +
		record("/proc/2/stat", "2 (kthreadd) S 0"+statTail+"\n") +
		record("/proc/17/stat", "17 (kworker/0:1) I 2"+statTail+"\n") +
		record("/proc/40/stat", "40 (a) S 1 (\nb) R 1"+statTail+"\n") +
		record("/proc/1/cmdline", "/sbin/init") + record("/proc/1/cmdline", "--x y") +
		record("/proc/net/tcp", tcp) + record("/proc/net/tcp6", "0: 00000000000000000000000001000000:1F90 0:0 0A\n")
	want := client.Programs{
		Processes: []client.Process{
			{PID: 1, Parent: 0, Command: "/sbin/init --x y", State: "S", CPUSeconds: 3, MemoryBytes: 1 << 20, AgeSeconds: 900.5, Started: 10000},
			{PID: 40, Parent: 1, Command: "a) S 1 (\nb", State: "R", CPUSeconds: 3, MemoryBytes: 1 << 20, AgeSeconds: 900.5, Started: 10000},
		},
		Ports: []client.Port{{Port: 8080, Loopback: true}, {Port: 22}},
	}
	if diff := cmp.Diff(want, desk.Parse([]byte(out))); diff != "" {
		t.Error(diff)
	}
}

// One process cannot write another's record: what it chooses has no zero byte.
func TestProcessCannotForgeARecord(t *testing.T) {
	out := record("/proc/1/stat", "1 (init) S 0"+statTail) +
		record("/proc/1/cmdline", "/sbin/init") +
		record("/proc/9/stat", "9 (x) S 1"+statTail) +
		record("/proc/9/cmdline", "x\n/proc/1/cmdline:evil")
	got := desk.Parse([]byte(out))
	if len(got.Processes) != 2 || got.Processes[0].Command != "/sbin/init" {
		t.Errorf("%+v", got.Processes)
	}
}

func FuzzPrograms(f *testing.F) {
	f.Add([]byte(record("/proc/uptime", "1 1") + record("/proc/1/stat", "1 (a) S 0"+statTail) + record("/proc/net/tcp", "0: 0:1F90 0:0 0A")))
	f.Add([]byte("/proc/1/stat:1 (\xff) R -1 NaN Inf 1e999"))
	f.Fuzz(func(t *testing.T, out []byte) {
		got := desk.Parse(out)
		for _, p := range got.Processes {
			if p.CPUSeconds < 0 || p.AgeSeconds < 0 || p.MemoryBytes < 0 || len(p.State) > 4 || !utf8.ValidString(p.Command) {
				t.Errorf("%+v", p)
			}
		}
		for _, p := range got.Ports {
			if p.Port < 1 || p.Port > 65535 {
				t.Errorf("port %d", p.Port)
			}
		}
		if len(got.Ports) > 1000 || len(got.Processes) > 5000 || strings.Count(string(out), "\x00")+1 < len(got.Processes) {
			t.Errorf("%d processes, %d ports", len(got.Processes), len(got.Ports))
		}
	})
}
