package sdk_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tools is where the programs are by which SDKs run, and the SDKs themselves.
type tools struct {
	// bin has python, node and npm.
	bin string
	// dir is where the scenarios' packages are.
	dir string
}

// install installs the pinned tools and SDKs with their ordinary clients into a
// cache, once for each state of the pins.
func install(t *testing.T, cache string) tools {
	t.Helper()
	sum := sha256.New()
	for _, pins := range []string{"requirements.txt", "package.json", "package-lock.json"} {
		b, err := os.ReadFile(pins)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	tl := tools{dir: filepath.Join(cache, "sdk", hex.EncodeToString(sum.Sum(nil))[:16])}
	tl.bin = filepath.Join(tl.dir, "venv", "bin")
	done := filepath.Join(tl.dir, "done")
	if _, err := os.Stat(done); errors.Is(err, fs.ErrNotExist) {
		tl.fill(t)
		if err := os.WriteFile(done, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tl
}

// fill makes the folder anew.
func (tl tools) fill(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(tl.dir), os.MkdirAll(tl.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"package.json", "package-lock.json", ".npmrc"} {
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(tl.dir, file), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pins, err := filepath.Abs("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"python3", "-m", "venv", filepath.Join(tl.dir, "venv")},
		{filepath.Join(tl.bin, "pip"), "install", "--quiet", "--requirement", pins},
		{filepath.Join(tl.bin, "npm"), "ci", "--no-audit", "--no-fund"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = tl.dir, tl.env()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("install the SDKs: %v: %v\n%s", args, err, out)
		}
	}
}

// env is the environment in which these tools are found first.
func (tl tools) env() []string {
	return append(os.Environ(), "PATH="+tl.bin+":"+os.Getenv("PATH"))
}

// scenarios copies the scenarios to where their packages are found, and returns
// the folder.
func (tl tools) scenarios(t *testing.T) string {
	t.Helper()
	to, err := os.MkdirTemp(tl.dir, "run")
	if err == nil {
		t.Cleanup(func() {
			if err := os.RemoveAll(to); err != nil {
				t.Error(err)
			}
		})
		err = os.CopyFS(to, os.DirFS("scenarios"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}
