package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/config"
	"bulkhead/internal/fault"
	"bulkhead/internal/vmm"

	"github.com/google/go-cmp/cmp"
)

// defaults is what an empty file gives.
func defaults(t *testing.T) config.Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return config.Config{
		StateDir: "/var/lib/bulkhead", Socket: "/var/lib/bulkhead/bulkhead.sock",
		CacheDir: "/var/cache/bulkhead", Accel: "auto", Egress: "packages", EgressAskSeconds: 60, Registries: []string{"public"},
		Jail: "strict", JailFirstUID: config.DefaultJailFirstUID, JailUIDs: config.DefaultJailUIDs,
		GuestAgent: filepath.Join(filepath.Dir(exe), "bulkhead-guest"),
		LogLevel:   slog.LevelInfo, LogFormat: "text",
		Template: config.Template{CPUs: 1, MemoryMiB: 512, DiskMiB: 8192},
		Limits:   config.Limits{Sandboxes: 1000, Snapshots: 500, TeamTemplates: 100, TeamBuilds: 4, Requests: 500},
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const full = `
# Everything at once.
state_dir: /srv/bulkhead/
socket: /run/b.sock
cache_dir: /srv/../cache
pool_size: 10GiB
accel: tcg
guest_agent: /opt/guest
qemu: /opt/qemu
log_level: debug
log_format: json
jail: degraded
jail_first_uid: 70000
jail_uids: 16
egress: none
egress_ask_seconds: 90
template:
  cpus: 4
  memory_mib: 1024
  disk_mib: 2048
limits:
  sandboxes: 4
  memory_mib: 2048
  cpus: 8
  snapshots: 20
  team_sandboxes: 2
  team_templates: 3
  team_builds: 3
  requests: 7
listen: localhost:3000
listen_tls: "[::]:443"
domain: bulkhead.example.com
tls_cert: /c
tls_key: /k
cors_origins: https://a.example, http://b.example:8080
registries: public, registry.example.com:5000, http://10.1.2.3:5000
reclaim_hours: 23:00-06:30
`

func TestLoad(t *testing.T) {
	all := config.Config{
		StateDir: "/srv/bulkhead", Socket: "/run/b.sock", CacheDir: "/cache",
		PoolSize: 10 << 30, Accel: "tcg", GuestAgent: "/opt/guest", QEMU: "/opt/qemu",
		LogLevel: slog.LevelDebug, LogFormat: "json",
		Jail: "degraded", JailFirstUID: 70000, JailUIDs: 16, Egress: "none", EgressAskSeconds: 90,
		Template: config.Template{CPUs: 4, MemoryMiB: 1024, DiskMiB: 2048},
		Limits:   config.Limits{Sandboxes: 4, MemoryMiB: 2048, CPUs: 8, Snapshots: 20, TeamSandboxes: 2, TeamTemplates: 3, TeamBuilds: 3, Requests: 7},
		Listen:   "127.0.0.1:3000", ListenTLS: "[::]:443", Domain: "bulkhead.example.com", TLSCert: "/c", TLSKey: "/k",
		Origins:    []string{"https://a.example", "http://b.example:8080"},
		Registries: []string{"public", "registry.example.com:5000", "http://10.1.2.3:5000"}, ReclaimHours: config.Hours{From: 23 * 60, Until: 390},
	}
	tests := map[string]struct {
		content  string
		override map[string]string
		want     func(*config.Config)
	}{
		"an empty file gives the defaults": {},
		"comments only":                    {content: "# nothing\n"},
		"an explicit null is the default":  {content: "socket:\naccel: ~\n"},
		"every key":                        {content: full, want: func(c *config.Config) { *c = all }},
		"the socket follows the state directory": {content: "state_dir: /x", want: func(c *config.Config) {
			c.StateDir, c.Socket = "/x", "/x/bulkhead.sock"
		}},
		"overrides win": {
			content:  "state_dir: /x\ntemplate: {cpus: 2, memory_mib: 256}",
			override: map[string]string{"state_dir": "/y", "template.cpus": "3", "log_level": "error"},
			want: func(c *config.Config) {
				c.StateDir, c.Socket, c.LogLevel = "/y", "/y/bulkhead.sock", slog.LevelError
				c.Template.CPUs, c.Template.MemoryMiB = 3, 256
			},
		},
		"sizes in other units": {content: "pool_size: 524288 KiB", want: func(c *config.Config) { c.PoolSize = 512 << 20 }},
		"sizes in bytes":       {content: "pool_size: 1073741824", want: func(c *config.Config) { c.PoolSize = 1 << 30 }},
		"auto wins over the file": {
			content: "pool_size: 1TiB", override: map[string]string{"pool_size": "auto"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := defaults(t)
			if tt.want != nil {
				tt.want(&want)
			}
			got, err := config.Load(config.Source{File: file(t, tt.content), Override: tt.override})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := map[string]struct {
		content  string
		override map[string]string
		want     string
	}{
		"an unknown key":             {content: "a: 1", want: `line 1: unknown key "a"`},
		"an unknown key below":       {content: "template:\n  ram: 1", want: `line 2: unknown key "template.ram"`},
		"an unknown override":        {override: map[string]string{"b": ""}, want: `unknown key "b"`},
		"a key twice":                {content: "accel: kvm\naccel: tcg", want: `line 2: key "accel" appears twice`},
		"a list":                     {content: "accel: [kvm]", want: "line 1: accel: want one plain value"},
		"a list of keys":             {content: "- accel", want: "line 1: want key: value"},
		"an alias":                   {content: "accel: &a kvm\nqemu: *a", want: "line 2: qemu: want one plain value"},
		"broken YAML":                {content: "a: b: c", want: "mapping values are not allowed"},
		"a relative path":            {content: "state_dir: var", want: `state_dir: "var" is not an absolute path`},
		"an empty path":              {content: `socket: ""`, want: `socket: "" is not an absolute path`},
		"a path with a line break":   {content: `qemu: "/a\nb"`, want: `qemu: "/a\nb" has control characters`},
		"a long state directory":     {content: "state_dir: /" + strings.Repeat("x", 54), want: "has 55 bytes, at most 54 fit"},
		"a long socket":              {content: "socket: /" + strings.Repeat("x", 100), want: "has 101 bytes, at most 100 fit"},
		"an unknown accelerator":     {content: "accel: hvf", want: `accel: "hvf" is not one of auto, kvm, tcg`},
		"keys in the clear":          {content: "listen: 0.0.0.0:3000", want: "not a loopback address, and keys would travel in the clear: use listen_tls"},
		"a name to listen at":        {content: "listen: host:3000", want: "is not an address and port like 127.0.0.1:3000"},
		"half an address":            {content: "listen_tls: 0.0.0.0", want: "is not an address and port like 0.0.0.0:443"},
		"a domain that is none":      {content: "domain: Bulk_Head", want: "is not a domain name in small letters"},
		"a domain that is a number":  {content: "domain: 10.0.0.1", want: "is an address, not a name"},
		"every origin":               {content: `cors_origins: "*"`, want: "is not an origin like"},
		"an origin with a path":      {content: "cors_origins: https://a.example/", want: "is not an origin like"},
		"a registry with a path":     {content: "registries: ghcr.io/owner", want: `"ghcr.io/owner" is not public, nor a registry like`},
		"a registry by https":        {content: "registries: https://ghcr.io", want: "is not public, nor a registry like"},
		"no registry":                {content: `registries: ""`, want: "is not public, nor a registry like"},
		"an unknown level":           {content: "log_level: loud", want: `log_level: "loud" is not one of debug, info, warn, error`},
		"an unknown format":          {content: "log_format: xml", want: `log_format: "xml" is not one of text, json`},
		"no CPU":                     {content: "template: {cpus: 0}", want: `template.cpus: "0" is not a whole number from 1 to 64`},
		"many CPUs":                  {override: map[string]string{"template.cpus": "65"}, want: `template.cpus: "65" is not a whole number from 1 to 64`},
		"half a CPU":                 {content: "template: {cpus: 1.5}", want: `template.cpus: "1.5" is not a whole number`},
		"odd memory":                 {content: "template: {memory_mib: 129}", want: "template.memory_mib: 129 is not a multiple of 2"},
		"little memory":              {content: "template: {memory_mib: 126}", want: `"126" is not a whole number from 128 to`},
		"a small disk":               {content: "template: {disk_mib: 1023}", want: `template.disk_mib: "1023" is not a whole number from 1024 to`},
		"a small pool":               {content: "pool_size: 511MiB", want: `pool_size: "511MiB" is not auto or a size from 512MiB to 64TiB`},
		"a pool beyond 64 bits":      {content: "pool_size: 99999999999TiB", want: "is not auto or a size"},
		"a pool that wraps to small": {content: "pool_size: 16777217TiB", want: "is not auto or a size"},
		"a negative pool":            {content: "pool_size: -1GiB", want: "is not auto or a size"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := file(t, tt.content)
			_, err := config.Load(config.Source{File: path, Override: tt.override})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Load = %v, want an error with %q", err, tt.want)
			}
			if got, want := fault.KindOf(err), fault.Invalid; got != want {
				t.Errorf("kind = %s, want %s", got, want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
			if fromFile := tt.override == nil; fromFile != strings.Contains(err.Error(), path) {
				t.Errorf("error %q names the file: %v, want %v", err, !fromFile, fromFile)
			}
		})
	}
}

// TestCertificateAndKeyGoTogether: one may come from the file, the other from a flag.
func TestCertificateAndKeyGoTogether(t *testing.T) {
	half := config.Source{File: file(t, "tls_cert: /c")}
	if _, err := config.Load(half); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "tls_cert and tls_key go together") {
		t.Errorf("Load = %v, want %s", err, fault.Invalid)
	}
	half.Override = map[string]string{"tls_key": "/k"}
	if c, err := config.Load(half); err != nil || c.TLSCert != "/c" || c.TLSKey != "/k" {
		t.Errorf("Load = %s, %s, %v", c.TLSCert, c.TLSKey, err)
	}
}

func TestLoadFiles(t *testing.T) {
	huge := file(t, "")
	if err := os.Truncate(huge, 1<<20+1); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"a named file must exist":   filepath.Join(t.TempDir(), "none"),
		"a directory is refused":    t.TempDir(),
		"a huge file is refused":    huge,
		"a device is refused":       "/dev/zero",
		"a binary file is refused":  "/proc/self/exe",
		"an unreadable one is told": "/proc/self/mem",
	}
	for name, path := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(config.Source{File: path})
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("Load(%s) = %v, want a fault of kind %s", path, err, fault.Invalid)
			}
		})
	}
}

// TestPathsBelowStateDirFit takes the longest state directory and checks the
// limits that it was chosen for.
func TestPathsBelowStateDirFit(t *testing.T) {
	longest := "/" + strings.Repeat("x", 53)
	c, err := config.Load(config.Source{File: file(t, "state_dir: "+longest)})
	if err != nil {
		t.Fatal(err)
	}
	runDir := filepath.Join(c.StateDir, "run", "i"+strings.Repeat("0", 20))
	spec := vmm.Spec{
		ID: "i", CPUs: 1, MemoryMiB: 64, RunDir: runDir,
		Memory: "/memory", Disk: "/disk", Kernel: "/kernel", Initrd: "/initrd",
	}
	if err := spec.Check(); err != nil {
		t.Error(err)
	}
	if got, most := len(filepath.Join(runDir, "guest.sock")), 107; got > most {
		t.Errorf("guest.sock has a path of %d bytes, at most %d fit", got, most)
	}
	if got, most := len(c.Socket), 100; got > most {
		t.Errorf("default socket has a path of %d bytes, at most %d fit", got, most)
	}
}

func TestKeysBecomeFlags(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range config.Keys() {
		if seen[k.Flag()] || k.Help == "" || strings.ContainsAny(k.Flag(), "_.") {
			t.Errorf("key %s: flag %q is not usable, or it has no help", k.Name, k.Flag())
		}
		seen[k.Flag()] = true
	}
	if !seen["template-memory-mib"] {
		t.Errorf("flags = %v, want template-memory-mib among them", seen)
	}
}

func TestAutoPoolSize(t *testing.T) {
	tests := map[string]struct{ free, want int64 }{
		"most of a small disk":  {40 << 30, 30 << 30},
		"at most 64 GiB":        {4 << 40, 64 << 30},
		"a multiple of 1 MiB":   {10<<20 + 12345, 7 << 20},
		"nothing of a full one": {0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := config.AutoPoolSize(tt.free); got != tt.want {
				t.Errorf("AutoPoolSize(%d) = %d, want %d", tt.free, got, tt.want)
			}
		})
	}
}

func TestPoolBytes(t *testing.T) {
	fixed := config.Config{StateDir: "/does/not/matter", PoolSize: 1 << 30}
	if got, err := fixed.PoolBytes(); err != nil || got != 1<<30 {
		t.Errorf("PoolBytes of a fixed size = %d, %v", got, err)
	}
	auto := config.Config{StateDir: filepath.Join(t.TempDir(), "not", "made", "yet")}
	if got, err := auto.PoolBytes(); err != nil || got <= 0 || got > 64<<30 {
		t.Errorf("PoolBytes of a directory to be made = %d, %v; want 1 byte to 64 GiB", got, err)
	}
}
