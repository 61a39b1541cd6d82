package house_test

import (
	"fmt"
	"go/token"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layers lists the product's packages from top to bottom, each with all that
// is in its folder. A package imports only from rows below its own, or from
// the same folder (pool and pool/loop); so those of one row do not know each
// other.
var layers = [][]string{
	{"cmd/bulkhead", "cmd/bulkhead-guest"},
	{"internal/cli", "internal/daemon"},
	{"internal/attack", "internal/caution", "internal/doctor", "internal/egress", "internal/inside", "internal/meter", "internal/parcel", "internal/reclaim", "internal/server", "internal/sqlite", "internal/watchdog"},
	{"internal/sandbox"},
	{"internal/audit", "internal/guest", "internal/guestd", "internal/image", "internal/journal", "internal/mcp", "internal/pool", "internal/vmm"},
	{"client", "internal/config", "internal/jail", "internal/link", "internal/network", "internal/secret"},
	{"proto/filesystem", "proto/machine", "proto/process"},
	{"internal/addressing", "internal/cgroup", "internal/compare", "internal/duplex", "internal/durable", "internal/fault", "internal/lately", "internal/single", "internal/unwind"},
}

// fence says what a package must not know, over and above the layers. A name
// that ends in /... stands for everything below too.
type fence struct {
	pkg string
	// may lists all of this module outside of pkg that it may import; nil for
	// no limit.
	may []string
	// never lists what pkg must not reach, through others neither.
	never []string
	why   string
}

var fences = []fence{
	{pkg: "internal/sandbox/...", never: []string{"internal/vmm/qemu", "internal/guest", "internal/image", "internal/sqlite", "database/sql"},
		why: "the heart knows contracts only and is handed the implementations"},
	{pkg: "internal/sandbox/lifecycle", may: []string{}, never: []string{"os", "net", "sync", "time", "context"},
		why: "the state table is pure: no I/O, no locks, no clock"},
	{pkg: "internal/pool/...", may: []string{"internal/addressing", "internal/cgroup", "internal/durable", "internal/fault", "internal/unwind"},
		why: "storage must be testable without machines"},
	{pkg: "internal/vmm", may: []string{}, why: "the contract is given paths and numbers"},
	{pkg: "internal/vmm/qemu/...", may: []string{"internal/vmm", "internal/addressing", "internal/jail/...", "internal/cgroup", "internal/durable", "internal/fault", "internal/unwind"},
		why: "a driver knows VMMs, not what is in them"},
	{pkg: "internal/jail/...", may: []string{"internal/addressing", "internal/cgroup", "internal/durable", "internal/fault", "internal/unwind"},
		why: "a cage is data: the jail does not know what runs in it"},
	{pkg: "internal/egress/...", may: []string{"internal/network", "internal/durable", "internal/fault", "internal/single", "internal/unwind"},
		why: "the perimeter must be testable without machines"},
	{pkg: "internal/parcel", may: []string{"internal/fault"}, why: "an archive is files: it knows no pool"},
	{pkg: "internal/compare", may: []string{}, never: []string{"os", "net", "sync", "context"}, why: "what differs is a pure question"},
	{pkg: "internal/watchdog", may: []string{"internal/sandbox/schedule"}, why: "it judges by what it is told and has done what is due"},
	{pkg: "internal/meter", may: []string{}, why: "it remembers what it is told"},
	{pkg: "internal/lately", may: []string{}, why: "it remembers what it is told"},
	{pkg: "internal/sandbox/lease", may: []string{"internal/sandbox/schedule"}, never: []string{"os", "net", "sync", "context"}, why: "leases are pure"},
	{pkg: "internal/server/e2b", may: []string{"client", "internal/fault", "internal/server/auth", "internal/server/console", "internal/server/input", "internal/server/repeat"},
		why: "it reads and writes; what it asks for is handed to it"},
	{pkg: "internal/server/e2b/builds", may: []string{"client", "internal/fault", "internal/server/auth", "internal/server/e2b", "internal/server/input"},
		why: "it reads and writes; what builds is handed to it"},
	{pkg: "internal/sandbox/recipe", may: []string{"internal/fault"}, never: []string{"os", "net", "sync", "context"}, why: "a recipe is pure"},
	{pkg: "internal/reclaim", may: []string{"internal/sandbox/schedule"}, why: "it judges by what it is told and has done what is due"},
	{pkg: "internal/sandbox/schedule", may: []string{"internal/fault"}, never: []string{"os", "net", "sync", "context"}, why: "schedules are pure"},
	{pkg: "internal/secret", may: []string{"internal/durable", "internal/fault"}, why: "it keeps values and does not know what they are for"},
	{pkg: "internal/network", may: []string{"internal/addressing", "internal/fault", "internal/unwind"},
		why: "it makes namespaces; who may go where is decided elsewhere"},
	{pkg: "internal/guest", never: []string{"internal/vmm/...", "internal/pool/..."}, why: "it is given a connection"},
	{pkg: "internal/guestd/...", may: []string{"internal/addressing", "internal/duplex", "internal/link", "internal/fault", "proto/..."},
		why: "what runs in the guest has no host code"},
	{pkg: "internal/cli/...", may: []string{"client/...", "internal/config", "internal/fault", "internal/mcp"}, why: "the CLI is a client like any other"},
	{pkg: "internal/server/...", never: []string{"internal/sandbox", "internal/pool", "internal/vmm/...", "internal/sqlite"},
		why: "it serves an interface; the daemon puts the sandboxes behind it"},
	{pkg: "internal/server/ssh/...", may: []string{"client", "internal/durable", "internal/fault"}, why: "what SSH asks for goes through the API, as a client's"},
	{pkg: "internal/server/local", may: []string{"client"}, why: "it carries what is asked and does not know it"},
	{pkg: "internal/mcp", may: []string{"client"}, why: "its tools are calls of the API"},
	{pkg: "internal/server/auth", may: []string{"internal/fault"}, never: []string{"net/http", "database/sql"}, why: "who is asking has nothing to do with how"},
	{pkg: "client/...", never: []string{"internal/..."}, why: "other modules use it"},
	{pkg: "cmd/bulkhead-guest", may: []string{"internal/guestd/...", "internal/link", "internal/fault", "proto/..."},
		never: []string{"database/sql", "github.com/spf13/cobra"}, why: "the guest agent stays small and has no host code"},
}

// appointed packages are chosen when the parts are put together: by the
// daemon and by cmd, nowhere else.
var appointed = []string{"internal/vmm/qemu", "internal/sqlite", "internal/image", "internal/guest", "internal/audit", "internal/daemon"}

// maxDepth is the longest chain of imports within the module.
const maxDepth = 10

// guestModules is every module that the guest agent links.
var guestModules = []string{
	"bulkhead",
	"connectrpc.com/connect",
	"github.com/hashicorp/yamux",
	"github.com/kr/fs",
	"github.com/pkg/sftp",
	"golang.org/x/crypto",
	"golang.org/x/sys",
	"google.golang.org/protobuf",
}

func layerRules() []rule {
	return []rule{
		{"layers", layerBreaches, map[string]string{
			"internal/fault/fault.go":      "package fault",
			"internal/vmm/vmm.go":          "package vmm",
			"internal/vmm/qemu/qemu.go":    "package qemu\nimport \"bulkhead/internal/vmm\"",
			"internal/pool/pool.go":        "package pool\nimport \"bulkhead/internal/vmm\" // breach",
			"internal/pool/pool_test.go":   "package pool_test\nimport \"bulkhead/internal/sandbox\"",
			"internal/sandbox/sandbox.go":  "package sandbox\nimport \"bulkhead/internal/vmm\"",
			"internal/unwind/unwind.go":    "package unwind\nimport \"bulkhead/internal/sandbox\" // breach",
			"internal/novelty/novelty.go":  "package novelty // breach",
			"test/harness/harness.go":      "package harness\nimport \"bulkhead/internal/sandbox\"",
			"internal/pool/pooltest/pt.go": "package pooltest\nimport \"bulkhead/internal/pool\"",
		}},
		{"fences", fenceBreaches, map[string]string{
			"client/client.go":                     "package client",
			"internal/cli/cli.go":                  "package cli\nimport \"bulkhead/client\"\nimport \"bulkhead/internal/server\" // breach",
			"internal/server/server.go":            "package server\nimport \"bulkhead/internal/image\" // breach",
			"internal/image/image.go":              "package image\nimport \"bulkhead/internal/pool\"",
			"internal/link/link.go":                "package link",
			"internal/pool/pool.go":                "package pool\nimport \"os\"\nimport \"bulkhead/internal/pool/loop\"",
			"internal/pool/loop/loop.go":           "package loop\nimport \"bulkhead/internal/link\" // breach",
			"internal/sandbox/lifecycle/states.go": "package lifecycle\nimport \"fmt\"\nimport \"os\" // breach",
		}},
		{"appointed", appointedBreaches, map[string]string{
			"cmd/bulkhead/main.go":         "package main\nimport \"bulkhead/internal/sqlite\"",
			"internal/sqlite/sqlite.go":    "package sqlite",
			"internal/server/server.go":    "package server\nimport \"bulkhead/internal/sqlite\" // breach",
			"internal/vmm/qemu/qemu.go":    "package qemu\nimport \"bulkhead/internal/vmm/qemu/qmp\"",
			"internal/vmm/qemu/qmp/qmp.go": "package qmp",
		}},
		{"test code", supportBreaches, map[string]string{
			"internal/pool/pool.go":        "package pool\nimport \"bulkhead/internal/pool/pooltest\" // breach",
			"internal/pool/fake.go":        "package pool\nimport \"net/http/httptest\"\nimport \"testing\" // breach",
			"internal/pool/pool_test.go":   "package pool_test\nimport \"testing\"",
			"internal/pool/pooltest/pt.go": "package pooltest\nimport \"testing\"",
		}},
		{"import depth", depthBreaches, chainOf(maxDepth + 1)},
	}
}

// chainOf returns n packages of which each imports the next.
func chainOf(n int) map[string]string {
	sources := map[string]string{}
	for i := range n {
		text := fmt.Sprintf("package p%d", i)
		if i == 0 {
			text += " " + marker
		}
		if i+1 < n {
			text += fmt.Sprintf("\nimport \"bulkhead/p%d\"", i+1)
		}
		sources[fmt.Sprintf("p%d/p.go", i)] = text
	}
	return sources
}

// imports says for each package of the product what it imports, and where.
// Packages of this module go by their folder.
type imports map[string]map[string]token.Pos

func (t *tree) imports() imports {
	all := imports{}
	for _, f := range t.files {
		if f.ast == nil || f.isSupport() {
			continue
		}
		if all[f.dir()] == nil {
			all[f.dir()] = map[string]token.Pos{}
		}
		for _, spec := range f.ast.Imports {
			p := strings.TrimPrefix(strings.Trim(spec.Path.Value, `"`), module+"/")
			if _, ok := all[f.dir()][p]; !ok {
				all[f.dir()][p] = spec.Pos()
			}
		}
	}
	return all
}

// each calls visit for every import, in a fixed order.
func (all imports) each(visit func(from, to string, pos token.Pos)) {
	for _, from := range slices.Sorted(maps.Keys(all)) {
		for _, to := range slices.Sorted(maps.Keys(all[from])) {
			visit(from, to, all[from][to])
		}
	}
}

// path returns the shortest way from a package to one that hit accepts, both
// included; nil if there is none.
func (all imports) path(from string, hit func(string) bool) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, to := range slices.Sorted(maps.Keys(all[queue[0]])) {
			if _, seen := came[to]; seen {
				continue
			}
			came[to] = queue[0]
			queue = append(queue, to)
			if !hit(to) {
				continue
			}
			var way []string
			for p := to; p != ""; p = came[p] {
				way = append(way, p)
			}
			slices.Reverse(way)
			return way
		}
	}
	return nil
}

// layerOf returns the entry of layers that dir is in and its row; -1 for none.
func layerOf(dir string) (entry string, row int) {
	for i, entries := range layers {
		for _, e := range entries {
			if matches(e+"/...", dir) {
				return e, i
			}
		}
	}
	return "", -1
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pattern == pkg
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

func layerBreaches(t *tree) (bs []breach) {
	all := t.imports()
	for dir, files := range t.packages() {
		if _, row := layerOf(dir); row < 0 && !files[0].isSupport() {
			bs = append(bs, t.breach(files[0].ast.Package, dir, "package %s is in no layer: give it one in test/house/layers_test.go", dir))
		}
	}
	all.each(func(from, to string, pos token.Pos) {
		upper, f := layerOf(from)
		lower, l := layerOf(to)
		if f >= l && f >= 0 && l >= 0 && upper != lower {
			bs = append(bs, t.breach(pos, to, "%s imports %s, which is beside or above it", from, to))
		}
	})
	return bs
}

func fenceBreaches(t *tree) (bs []breach) {
	all := t.imports()
	for _, f := range fences {
		for _, pkg := range slices.Sorted(maps.Keys(all)) {
			if !matches(f.pkg, pkg) {
				continue
			}
			for to, pos := range all[pkg] {
				if _, ours := all[to]; ours && f.may != nil && !matches(f.pkg, to) && !matchesAny(f.may, to) {
					bs = append(bs, t.breach(pos, to, "%s imports %s: %s", pkg, to, f.why))
				}
			}
			for _, never := range f.never {
				if way := all.path(pkg, func(p string) bool { return matches(never, p) }); way != nil {
					bs = append(bs, t.breach(all[pkg][way[1]], never, "%s: %s", strings.Join(way, " -> "), f.why))
				}
			}
		}
	}
	return bs
}

func appointedBreaches(t *tree) (bs []breach) {
	t.imports().each(func(from, to string, pos token.Pos) {
		if slices.Contains(appointed, to) && !matches("internal/daemon/...", from) && from != "cmd/bulkhead" && !matches(to+"/...", from) {
			bs = append(bs, t.breach(pos, to, "%s imports %s, which is for those who put the parts together", from, to))
		}
	})
	return bs
}

func supportBreaches(t *tree) (bs []breach) {
	t.imports().each(func(from, to string, pos token.Pos) {
		ours := strings.HasPrefix(to, "internal/") || strings.HasPrefix(to, "test/")
		if to == "testing" || ours && isSupportDir(to) {
			bs = append(bs, t.breach(pos, to, "%s imports %s: product code does without test code", from, to))
		}
	})
	return bs
}

func depthBreaches(t *tree) (bs []breach) {
	all := t.imports()
	longest := map[string][]string{}
	var walk func(string) []string
	walk = func(from string) []string {
		if way, ok := longest[from]; ok {
			return way
		}
		var below []string
		for to := range all[from] {
			if _, ours := all[to]; !ours {
				continue
			}
			if way := walk(to); len(way) > len(below) {
				below = way
			}
		}
		longest[from] = append([]string{from}, below...)
		return longest[from]
	}
	for dir, files := range t.packages() {
		if way := walk(dir); !files[0].isSupport() && len(way) > maxDepth {
			bs = append(bs, t.breach(files[0].ast.Package, dir, "%d packages deep, of %d: %s", len(way), maxDepth, strings.Join(way, " -> ")))
		}
	}
	return bs
}

// TestGuestModules pins what the guest agent links: it is loaded into every
// machine, and everything in it is exposed to what runs there.
func TestGuestModules(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/bulkhead-guest")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list what cmd/bulkhead-guest links: %v", err)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if diff := cmp.Diff(guestModules, slices.Compact(got)); diff != "" {
		t.Errorf("modules of the guest agent (-want +got):\n%s", diff)
	}
}
