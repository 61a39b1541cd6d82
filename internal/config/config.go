// Package config is what the operator decides: one flat list of keys, each
// with a default that works, a range and a sentence of help (keys.go). The
// file and the flags both go through that list, so that a key means the same
// in both.
//
// The daemon and the CLI read the same configuration, so that they agree on
// the socket: with the same file and the same --state-dir they meet, whatever
// else is set.
//
// config reads files and never changes any. It must not know what a value is
// used for beyond its range. It has no state.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"bulkhead/internal/fault"

	"go.yaml.in/yaml/v3"
)

// Where things are unless the operator says otherwise.
const (
	DefaultFile     = "/etc/bulkhead/config.yaml"
	DefaultStateDir = "/var/lib/bulkhead"
	DefaultCacheDir = "/var/cache/bulkhead"
)

// The users that sandboxes get: a range in the part of the numbers that
// systemd leaves to nobody (its "Users, Groups, UIDs and GIDs": 1879048192 to
// 2147352575).
const (
	DefaultJailFirstUID = 1879048192
	DefaultJailUIDs     = 4096
)

// maxFile bounds the file: 1 MiB, far above any real one.
const maxFile = 1 << 20

// Config is a complete, checked configuration.
type Config struct {
	// StateDir holds the pool, the database, the audit log and the sockets.
	StateDir string
	// Socket is where the API listens.
	Socket string
	// CacheDir holds what can be built or fetched again.
	CacheDir string
	// PoolSize is in bytes; 0 leaves it to AutoPoolSize.
	PoolSize int64
	// Accel is "auto", "kvm" or "tcg".
	Accel string
	// GuestAgent is the in-guest agent's binary.
	GuestAgent string
	// QEMU is the VMM's binary; "" leaves it to the driver.
	QEMU string
	// Jail is "strict" or "degraded", which starts sandboxes on a host that
	// lacks features of the jail.
	Jail string
	// JailFirstUID and JailUIDs are the range of users that sandboxes get.
	JailFirstUID, JailUIDs int
	// Egress is the preset that new sandboxes get: "none", "packages" or
	// "public".
	Egress string
	// Listen is a loopback address and port for the API in the clear, ListenTLS
	// any address and port for it by TLS; "" for none.
	Listen, ListenTLS string
	// SSH is the address and port for SSH; "" for none.
	SSH string
	// Domain is the host's name in the net; "" for none.
	Domain string
	// TLSCert and TLSKey are files with its certificate and key; "" for one of
	// the host's own authority.
	TLSCert, TLSKey string
	// Registries are those that container images may come from: "public" for
	// those that everybody knows, hosts, and hosts after http://.
	Registries []string
	// Origins are those of pages that may use the API.
	Origins []string
	// EgressAskSeconds is how long a connection waits when the operator is asked
	// about it.
	EgressAskSeconds int
	// Limits are how much of the host machines may have.
	Limits Limits
	// ReclaimHours are when quiet machines give memory back although the host has
	// enough.
	ReclaimHours Hours
	// LogLevel and LogFormat ("text" or "json") are for the daemon's log.
	LogLevel  slog.Level
	LogFormat string
	// Template is what a template gets that does not say more.
	Template Template
}

// Limits bound all sandboxes together. 0 leaves a number to the host's size.
type Limits struct {
	// Sandboxes is how many there may be.
	Sandboxes int
	// MemoryMiB and CPUs are of machines that run.
	MemoryMiB, CPUs int
	// TeamSandboxes is how many one team may have; 0 for all that there may be.
	TeamSandboxes int
	// TeamTemplates is how many templates and published snapshots one team may
	// have; 0 for no limit.
	TeamTemplates int
	// TeamBuilds is how many builds of templates one team may have under way.
	TeamBuilds int
	// Requests is how many each key may send a second; 0 for no limit.
	Requests int
	// Snapshots is how many one sandbox may have, PoolMiB what it may have of the
	// pool for another; 0 is no limit.
	Snapshots, PoolMiB int
}

// Template is the default size of a template's machines.
type Template struct {
	CPUs, MemoryMiB, DiskMiB int
}

// Source says where a configuration comes from.
type Source struct {
	// File is a YAML file. "" means DefaultFile, which may be absent; a file
	// that is named must exist.
	File string
	// Override maps keys to values that win over the file's, as flags do.
	Override map[string]string
}

// Load reads and checks a configuration. Its errors are of kind
// fault.Invalid and name the key and its range.
func Load(src Source) (Config, error) {
	c := Config{
		StateDir: DefaultStateDir, CacheDir: DefaultCacheDir,
		Accel: "auto", LogFormat: "text", Jail: "strict", Egress: "packages", EgressAskSeconds: 60, Registries: []string{"public"}, JailFirstUID: DefaultJailFirstUID, JailUIDs: DefaultJailUIDs,
		Template: Template{CPUs: 1, MemoryMiB: 512, DiskMiB: 8192}, Limits: Limits{Sandboxes: 1000, Snapshots: 500, TeamTemplates: 100, TeamBuilds: 4, Requests: 500},
	}
	if err := c.applyFile(src.File); err != nil {
		return Config{}, err
	}
	for name, value := range src.Override {
		if err := c.apply(name, value); err != nil {
			return Config{}, err
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return Config{}, fault.New(fault.Invalid, "tls_cert and tls_key go together")
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(c.StateDir, "bulkhead.sock")
	}
	if c.GuestAgent == "" {
		exe, err := os.Executable()
		if err != nil {
			return Config{}, fmt.Errorf("find guest agent: %w", err)
		}
		c.GuestAgent = filepath.Join(filepath.Dir(exe), "bulkhead-guest")
	}
	return c, nil
}

// apply sets one key.
func (c *Config) apply(name, value string) error {
	keys := Keys()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return fault.New(fault.Invalid, "unknown key %q", name).
			Hint("bulkhead serve --help lists the keys as flags")
	}
	if err := keys[i].set(c, value); err != nil {
		return fault.New(fault.Invalid, "%s: %w", name, err)
	}
	return nil
}

func (c *Config) applyFile(path string) error {
	named := path != ""
	if !named {
		path = DefaultFile
	}
	content, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fault.New(fault.Invalid, "read config: %w", err)
	}
	if err := c.applyYAML(content); err != nil {
		return fault.New(fault.Invalid, "config %s: %w", path, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

func (c *Config) applyYAML(content []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil // empty, or comments only
	}
	return c.applyMapping(doc.Content[0], "", map[string]bool{})
}

// applyMapping applies the keys of a YAML mapping. A mapping inside another
// adds to the key: template: {cpus: 2} sets template.cpus.
func (c *Config) applyMapping(n *yaml.Node, prefix string, seen map[string]bool) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want key: value", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := prefix+n.Content[i].Value, n.Content[i+1]
		if seen[name] {
			return fmt.Errorf("line %d: key %q appears twice", value.Line, name)
		}
		seen[name] = true
		if err := c.applyNode(name, value, seen); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) applyNode(name string, value *yaml.Node, seen map[string]bool) error {
	switch {
	case (name == "template" || name == "limits") && value.Kind == yaml.MappingNode:
		return c.applyMapping(value, name+".", seen)
	case value.Kind != yaml.ScalarNode:
		return fmt.Errorf("line %d: %s: want one plain value", value.Line, name)
	case value.Tag == "!!null":
		return nil // "socket:" alone leaves the default
	}
	if err := c.apply(name, value.Value); err != nil {
		return fmt.Errorf("line %d: %w", value.Line, err)
	}
	return nil
}

// PoolBytes returns the size that a new pool gets: PoolSize, or a size by the
// free space of the file system that holds, or will hold, the state directory.
func (c Config) PoolBytes() (int64, error) {
	if c.PoolSize != 0 {
		return c.PoolSize, nil
	}
	var st syscall.Statfs_t
	for dir := c.StateDir; ; dir = filepath.Dir(dir) {
		err := syscall.Statfs(dir, &st)
		if err == nil {
			return AutoPoolSize(int64(st.Bavail) * st.Bsize), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return 0, fmt.Errorf("find free space of %s: %w", dir, err)
		}
	}
}

// AutoPoolSize returns the pool size for a file system with free bytes left:
// three quarters of them, the rest being for the cache and the logs, and at
// most 64 GiB. It is a multiple of 1 MiB. The pool file is sparse: it takes
// only what is used.
func AutoPoolSize(free int64) int64 {
	const most = 64 << 30
	size := min(free/4*3, most)
	return size &^ (1<<20 - 1)
}
