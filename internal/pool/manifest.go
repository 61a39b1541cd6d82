package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"bulkhead/internal/fault"
	"bulkhead/internal/pool/signed"
)

// LabelWhat is the label that says what a snapshot was taken before.
const LabelWhat = "what"

// Meta is what the owner of a snapshot says about it. The pool keeps it and
// uses none of it.
type Meta struct {
	// Sandbox is whose snapshot it is.
	Sandbox string `json:"sandbox,omitempty"`
	Name    string `json:"name,omitempty"`
	// Parent is the snapshot that the machine was last equal to. It need not
	// exist any more.
	Parent SnapshotID `json:"parent,omitempty"`
	// Cause says why it was taken.
	Cause   string    `json:"cause,omitempty"`
	Created time.Time `json:"created"`
	// Stopped is how long the guest stood still.
	Stopped time.Duration `json:"stopped_ns"`
	// Version holds facts about the VMM and CPU that can load the state.
	Version   map[string]string `json:"version,omitempty"`
	CPUs      int               `json:"cpus"`
	MemoryMiB int               `json:"memory_mib"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// manifest is the truth about a snapshot. Its file is signed JSON.
type manifest struct {
	Format int             `json:"format"`
	ID     SnapshotID      `json:"id"`
	Meta   Meta            `json:"meta"`
	Parts  map[string]part `json:"parts"`
}

// part is a file of a snapshot.
type part struct {
	Size int64 `json:"size"`
	// SHA256 is empty for memory and disk.
	SHA256 string `json:"sha256,omitempty"`
}

const manifestFormat = 1

// encode returns the file of m, signed with key.
func (m manifest) encode(key []byte) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	file := signed.Seal(body, key)
	if len(file) > signed.Max {
		return nil, fault.New(fault.Invalid, "names and labels take more than %d KiB", signed.Max>>10)
	}
	return file, nil
}

// decode reads a manifest from its file. With a nil key the signature may be
// anyone's. The error says what is wrong with it, without naming it.
func decode(file io.Reader, key []byte) (m manifest, err error) {
	body, err := signed.Read(file, key)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("not readable: %w", err)
	}
	if m.Format != manifestFormat {
		return m, fmt.Errorf("format %d is not known", m.Format)
	}
	for _, name := range allParts() {
		if _, ok := m.Parts[name]; !ok {
			return m, fmt.Errorf("%s is not listed", partName(name))
		}
	}
	return m, nil
}

// readManifest decodes the manifest in dir.
func readManifest(dir string, key []byte) (manifest, error) {
	f, err := os.Open(dir + "/" + manifestFile)
	if err != nil {
		return manifest{}, missing(err)
	}
	defer f.Close()
	return decode(f, key)
}

// missing is what is wrong with a manifest that cannot be opened.
func missing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("missing")
	}
	return err
}
