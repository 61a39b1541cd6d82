package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/image"
)

func TestBuildRefuses(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(agent, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	long := make([]string, 1001)
	for i := range long {
		long[i] = "git"
	}
	for name, tt := range map[string]struct {
		recipe image.Recipe
		kind   fault.Kind
		text   string
	}{
		"an option as a package":  {image.Recipe{Agent: agent, Packages: []string{"git", "-oDebug=1"}}, fault.Invalid, `package "-oDebug=1"`},
		"a path as a package":     {image.Recipe{Agent: agent, Packages: []string{"./evil.deb"}}, fault.Invalid, `package "./evil.deb"`},
		"a list as a package":     {image.Recipe{Agent: agent, Packages: []string{"git,vim"}}, fault.Invalid, `package "git,vim"`},
		"a pattern as a package":  {image.Recipe{Agent: agent, Packages: []string{"?name(x)"}}, fault.Invalid, "package"},
		"an empty package":        {image.Recipe{Agent: agent, Packages: []string{""}}, fault.Invalid, `package ""`},
		"an upper-case package":   {image.Recipe{Agent: agent, Packages: []string{"Git"}}, fault.Invalid, `package "Git"`},
		"a package with an end":   {image.Recipe{Agent: agent, Packages: []string{"git\n"}}, fault.Invalid, `package "git\n"`},
		"an endless package name": {image.Recipe{Agent: agent, Packages: []string{strings.Repeat("a", 5000)}}, fault.Invalid, "package"},
		"too many packages":       {image.Recipe{Agent: agent, Packages: long}, fault.Invalid, "1001 packages: at most 1000"},
		"an option as a suite":    {image.Recipe{Agent: agent, Suite: "--help"}, fault.Invalid, `suite "--help"`},
		"a small disk":            {image.Recipe{Agent: agent, DiskMiB: 1023}, fault.Invalid, "disk 1023 MiB"},
		"a negative disk":         {image.Recipe{Agent: agent, DiskMiB: -1}, fault.Invalid, "disk -1 MiB"},
		"a huge disk":             {image.Recipe{Agent: agent, DiskMiB: 16<<20 + 1}, fault.Invalid, "disk 16777217 MiB"},
		"a missing agent":         {image.Recipe{Agent: agent + "x"}, fault.Unavailable, "agentx"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			_, err := (&image.Builder{Cache: cache}).Build(t.Context(), tt.recipe, nil)
			if got := fault.KindOf(err); got != tt.kind {
				t.Errorf("kind %q, want %q: %v", got, tt.kind, err)
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) || len(err.Error()) > 200 {
				t.Errorf("error %q does not tell of %q in short", err, tt.text)
			}
			if _, err := os.Stat(cache); !os.IsNotExist(err) {
				t.Errorf("the cache was touched: %v", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	type result struct{ disk, initrd string }
	keys := func(r image.Recipe, mirror, kernel, agent string) result {
		t.Helper()
		disk, initrd, err := image.Keys(r, mirror, kernel, agent)
		if err != nil {
			t.Fatal(err)
		}
		return result{disk, initrd}
	}
	recipe := image.Recipe{Packages: []string{"vim", "tmux"}}
	base := keys(recipe, "", "6.1.1-1", "a1")

	for name, same := range map[string]image.Recipe{
		"packages in another order, one twice": {Packages: []string{"tmux", "vim", "tmux"}},
		"a package that every image has":       {Packages: []string{"vim", "tmux", "git"}},
		"defaults written out":                 {Packages: recipe.Packages, Suite: "bookworm", DiskMiB: 8192},
		"the agent's content elsewhere":        {Packages: recipe.Packages, Agent: "/elsewhere"},
	} {
		if got := keys(same, "", "6.1.1-1", "a1"); got != base {
			t.Errorf("%s: keys %v, want %v", name, got, base)
		}
	}
	for name, other := range map[string]struct {
		got          result
		disk, initrd bool
	}{
		"another package": {keys(image.Recipe{Packages: []string{"vim"}}, "", "6.1.1-1", "a1"), true, false},
		"build tools":     {keys(image.Recipe{Packages: recipe.Packages, BuildTools: true}, "", "6.1.1-1", "a1"), true, false},
		"another size":    {keys(image.Recipe{Packages: recipe.Packages, DiskMiB: 4096}, "", "6.1.1-1", "a1"), true, false},
		"another release": {keys(image.Recipe{Packages: recipe.Packages, Suite: "trixie"}, "", "6.1.1-1", "a1"), true, false},
		"another mirror":  {keys(recipe, "https://mirror.example/debian", "6.1.1-1", "a1"), true, false},
		"another kernel":  {keys(recipe, "", "6.1.1-2", "a1"), true, true},
		"another agent":   {keys(recipe, "", "6.1.1-1", "a2"), false, true},
	} {
		if (other.got.disk != base.disk) != other.disk || (other.got.initrd != base.initrd) != other.initrd {
			t.Errorf("%s: keys %v against %v: want disk to differ %t, initramfs %t", name, other.got, base, other.disk, other.initrd)
		}
	}
}

func TestParseKernel(t *testing.T) {
	const show = `Package: linux-image-cloud-amd64
Version: 6.1.192-2
Provides: linux-latest-modules-6.1.0-56-cloud-amd64
Depends: %
Description: Linux for x86-64 cloud (meta-package)
`
	for name, tt := range map[string]struct{ depends, pkg, version string }{
		"one dependency": {"linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)", "linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"},
		"among others":   {"foo, linux-image-6.12.1+deb13-cloud-amd64 (= 6.12.1-1~bpo12+1), bar (>= 2)", "linux-image-6.12.1+deb13-cloud-amd64", "6.12.1-1~bpo12+1"},
		"no version":     {"linux-image-6.1.0-56-cloud-amd64", "", ""},
		"another kind":   {"linux-image-6.1.0-56-amd64 (= 6.1.192-2)", "", ""},
		"a path":         {"linux-image-6/../../etc-cloud-amd64 (= 6.1.192-2)", "", ""},
		"an option":      {"linux-image-6.1.0-56-cloud-amd64 (= --help)", "", ""},
		"nothing":        {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pkg, version := image.ParseKernel(strings.ReplaceAll(show, "%", tt.depends))
			if pkg != tt.pkg || version != tt.version {
				t.Errorf("kernel %q %q, want %q %q", pkg, version, tt.pkg, tt.version)
			}
		})
	}
	if pkg, _ := image.ParseKernel(""); pkg != "" {
		t.Errorf("kernel %q from nothing", pkg)
	}
}

func TestMissingPackage(t *testing.T) {
	for said, want := range map[string]string{
		"run mmdebstrap: exit status 25: Reading package lists... | E: Unable to locate package no-such | E: setup failed": "no-such",
		"E: Package 'java5-runtime' has no installation candidate":                                                         "java5-runtime",
		"E: Failed to fetch the index": "",
	} {
		if got := image.MissingPackage(said); got != want {
			t.Errorf("package %q in %q, want %q", got, said, want)
		}
	}
}
