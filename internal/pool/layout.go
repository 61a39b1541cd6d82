package pool

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/internal/fault"
)

// MachineID names a machine: 1 to 40 of a-z and 0-9. Its owner chooses it.
type MachineID string

// SnapshotID names a snapshot, in the same alphabet. The pool chooses it.
type SnapshotID string

// Files are the paths of a machine's files.
type Files struct {
	// Dir is the folder that they are in. It is exchanged by Rollback.
	Dir string
	// Memory is RAM, sparse; Disk the raw root disk.
	Memory, Disk string
	// Kernel and Initrd are what it boots.
	Kernel, Initrd string
	// State is the device state that belongs to Memory and Disk, until the
	// machine goes on from it. It does not exist for an imported machine.
	State string
}

// Folders of a pool.
const (
	machinesDir  = "machines"
	snapshotsDir = "snapshots"
	stagingDir   = "staging"
)

// Files of a machine or snapshot.
const (
	memoryFile   = "memory"
	diskFile     = "disk"
	kernelFile   = "kernel"
	initrdFile   = "initrd"
	stateFile    = "state"
	manifestFile = "manifest"
)

// allParts are the files of a snapshot, without its manifest.
func allParts() []string {
	return []string{memoryFile, diskFile, stateFile, kernelFile, initrdFile}
}

// small reports whether a part is digested: it takes milliseconds, where
// memory and disk would take longer than everything else together.
func small(part string) bool { return part != memoryFile && part != diskFile }

// partName is what a part is called in errors.
func partName(part string) string {
	if part == stateFile {
		return "device state"
	}
	return part
}

// FilesOf says where a machine's files are, or would be, in the pool at dir.
func FilesOf(dir string, id MachineID) Files {
	return FilesIn(filepath.Join(dir, machinesDir, string(id)))
}

// FilesIn says where the files are of a machine or snapshot whose folder is dir.
func FilesIn(dir string) Files {
	return Files{
		Dir:    dir,
		Memory: dir + "/" + memoryFile,
		Disk:   dir + "/" + diskFile,
		Kernel: dir + "/" + kernelFile,
		Initrd: dir + "/" + initrdFile,
		State:  dir + "/" + stateFile,
	}
}

// checkID keeps everything that is not an id out of paths.
func checkID(kind, id string) error {
	if id == "" || len(id) > 40 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fault.New(fault.Invalid, "%q is not the id of a %s", id, kind)
	}
	return nil
}

// newName returns a random name of 60 bits. Whoever uses it for something
// durable creates that exclusively.
func newName() string { return strings.ToLower(rand.Text()[:12]) }

func newSnapshotID() SnapshotID { return SnapshotID("s" + newName()) }

// folder returns the path of an existing machine or snapshot.
func (p *Pool) folder(parent, kind, id string) (string, error) {
	if err := checkID(kind, id); err != nil {
		return "", err
	}
	dir := p.path(parent, id)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return "", fault.New(fault.NotFound, "no %s %s in the pool", kind, id)
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

// names lists the ids in a folder of the pool, in order. What is no id is not
// ours and left alone.
func (p *Pool) names(parent string) ([]string, error) {
	entries, err := os.ReadDir(p.path(parent))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && checkID("", e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
