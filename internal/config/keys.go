package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	// maxStateDir makes room for the longest path below the state directory
	// that is limited: a machine's run directory, "/run/" and an id of 21
	// characters, which drivers accept up to 80 bytes so that its sockets
	// fit into the 108 bytes of a unix address (unix(7)).
	maxStateDir = 80 - len("/run/") - 21
	// maxSocket stays well below the 108 bytes of a unix address.
	maxSocket = 100
	// maxPath leaves room for a name below PATH_MAX (4096).
	maxPath = 3800
)

// Key is one thing that can be configured.
type Key struct {
	// Name is the key in the file; template.cpus is cpus below template.
	Name string
	// Help is one phrase that ends with the default, for --help.
	Help string

	set func(c *Config, value string) error
}

// Flag returns the name of the flag that sets the key: "state-dir".
func (k Key) Flag() string { return strings.NewReplacer("_", "-", ".", "-").Replace(k.Name) }

// Keys lists every key in the order in which help shows them.
func Keys() []Key {
	return []Key{
		{"state_dir", "directory of everything that must be kept (" + DefaultStateDir + ")",
			path(maxStateDir, func(c *Config) *string { return &c.StateDir })},
		{"socket", "unix socket of the API (bulkhead.sock in the state directory)",
			path(maxSocket, func(c *Config) *string { return &c.Socket })},
		{"cache_dir", "directory of what can be built again (" + DefaultCacheDir + ")",
			path(maxPath, func(c *Config) *string { return &c.CacheDir })},
		{"pool_size", "size of a new pool, like 64GiB; auto is 3/4 of the free space, at most 64GiB (auto)",
			setPoolSize},
		{"accel", "what executes guest code: auto, kvm or tcg (auto)",
			oneOf(func(c *Config) *string { return &c.Accel }, "auto", "kvm", "tcg")},
		{"guest_agent", "binary of the in-guest agent (bulkhead-guest beside this program)",
			path(maxPath, func(c *Config) *string { return &c.GuestAgent })},
		{"qemu", "binary of QEMU (chosen by accelerator)",
			path(maxPath, func(c *Config) *string { return &c.QEMU })},
		{"jail", "strict refuses a host on which the jail would have holes, degraded does not (strict)",
			oneOf(func(c *Config) *string { return &c.Jail }, "strict", "degraded")},
		{"jail_first_uid", "first of the user numbers that sandboxes get; nobody else may have them (1879048192)",
			number(1<<16, 1<<31-2, 1, func(c *Config) *int { return &c.JailFirstUID })},
		{"jail_uids", "how many user numbers there are for sandboxes (4096)",
			number(1, 1<<20, 1, func(c *Config) *int { return &c.JailUIDs })},
		{"egress", "what new sandboxes may talk to: none, packages or public (packages)",
			oneOf(func(c *Config) *string { return &c.Egress }, "none", "packages", "public")},
		{"listen", "loopback address and port for the API in the clear, like 127.0.0.1:3000 (none)", setListen},
		{"listen_tls", "address and port for the API by TLS, like 0.0.0.0:443 (none)", setListenTLS},
		{"ssh", "address and port for SSH into sandboxes, like 127.0.0.1:2222 (none)", setSSH},
		{"domain", "name of this host; *.name leads to it too (none)", setDomain},
		{"tls_cert", "file with the certificate for domain, PEM (one of the host's own authority)",
			path(maxPath, func(c *Config) *string { return &c.TLSCert })},
		{"tls_key", "file with the key of tls_cert, PEM",
			path(maxPath, func(c *Config) *string { return &c.TLSKey })},
		{"cors_origins", "origins of pages that may use the API, separated by commas (none)", setOrigins},
		{"registries", "registries that images may come from, separated by commas: public for those that everybody knows, hosts, and http:// before one without TLS (public)",
			setRegistries},
		{"egress_ask_seconds", "how long a connection waits when the operator is asked about it (60)",
			number(1, 86400, 1, func(c *Config) *int { return &c.EgressAskSeconds })},
		{"limits.sandboxes", "how many sandboxes there may be (1000)",
			number(1, 100_000, 1, func(c *Config) *int { return &c.Limits.Sandboxes })},
		{"limits.memory_mib", "memory of all machines that run together, in MiB; 0 is what the host has (0)",
			number(0, 1<<30, 1, func(c *Config) *int { return &c.Limits.MemoryMiB })},
		{"limits.cpus", "virtual CPUs of all machines that run together; 0 is 16 for each of the host's (0)",
			number(0, 1<<20, 1, func(c *Config) *int { return &c.Limits.CPUs })},
		{"limits.pool_mib", "what a sandbox with its snapshots may have of the pool for another to be taken, in MiB; 0 is no limit (0)",
			number(0, 1<<30, 1, func(c *Config) *int { return &c.Limits.PoolMiB })},
		{"limits.snapshots", "how many snapshots one sandbox may have (500)",
			number(1, 100_000, 1, func(c *Config) *int { return &c.Limits.Snapshots })},
		{"limits.team_sandboxes", "how many sandboxes one team may have; 0 for as many as there may be (0)",
			number(0, 100_000, 1, func(c *Config) *int { return &c.Limits.TeamSandboxes })},
		{"limits.team_templates", "how many templates and published snapshots one team may have; 0 for no limit (100)",
			number(0, 100_000, 1, func(c *Config) *int { return &c.Limits.TeamTemplates })},
		{"limits.team_builds", "how many builds of templates one team may have under way (4)",
			number(1, 1000, 1, func(c *Config) *int { return &c.Limits.TeamBuilds })},
		{"limits.requests", "how many requests a second each key may send; 0 for no limit (500)",
			number(0, 1_000_000, 1, func(c *Config) *int { return &c.Limits.Requests })},
		{"reclaim_hours", "hours in which quiet machines give memory back although the host has enough, like 23:00-06:00 (none)", setReclaimHours},
		{"log_level", "least level that is logged: debug, info, warn or error (info)", setLogLevel},
		{"log_format", "form of the log: text or json (text)",
			oneOf(func(c *Config) *string { return &c.LogFormat }, "text", "json")},
		{"template.cpus", "virtual CPUs of a template that does not say (1)",
			number(1, 64, 1, func(c *Config) *int { return &c.Template.CPUs })},
		{"template.memory_mib", "memory of a template that does not say, in MiB (512)",
			number(128, 16<<20, 2, func(c *Config) *int { return &c.Template.MemoryMiB })},
		{"template.disk_mib", "root disk of a template that does not say, in MiB (8192)",
			number(1024, 16<<20, 1, func(c *Config) *int { return &c.Template.DiskMiB })},
	}
}

func path(most int, field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		clean := filepath.Clean(value)
		switch {
		case !filepath.IsAbs(value):
			return fmt.Errorf("%q is not an absolute path", value)
		case strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("%q has control characters", value)
		case len(clean) > most:
			return fmt.Errorf("%s has %d bytes, at most %d fit", clean, len(clean), most)
		}
		*field(c) = clean
		return nil
	}
}

func oneOf(field func(*Config) *string, values ...string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("%q is not one of %s", value, strings.Join(values, ", "))
		}
		*field(c) = value
		return nil
	}
}

func number(least, most, step int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number from %d to %d", value, least, most)
		}
		if n%step != 0 {
			return fmt.Errorf("%d is not a multiple of %d", n, step)
		}
		*field(c) = n
		return nil
	}
}

func setLogLevel(c *Config, value string) error {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[value]
	if !ok {
		return fmt.Errorf("%q is not one of debug, info, warn, error", value)
	}
	c.LogLevel = level
	return nil
}

func setPoolSize(c *Config, value string) error {
	if value == "auto" {
		c.PoolSize = 0
		return nil
	}
	// 512 MiB holds one small template; XFS itself wants 300 MiB.
	const least, most = 512 << 20, 64 << 40
	size, ok := parseSize(value)
	if !ok || size < least || size > most {
		return fmt.Errorf("%q is not auto or a size from 512MiB to 64TiB", value)
	}
	c.PoolSize = size
	return nil
}

// parseSize reads a number of bytes with an optional binary unit.
func parseSize(value string) (int64, bool) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if digits, ok := strings.CutSuffix(value, unit); ok {
			value, shift = digits, 10*(i+1)
			break
		}
	}
	// 63 bits less the unit's: the product cannot overflow.
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 63-shift)
	return int64(n) << shift, err == nil
}
