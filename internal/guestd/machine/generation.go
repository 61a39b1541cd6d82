package machine

import (
	"encoding/binary"
	"fmt"
	"os"
)

// GenerationFile is where programs look for the machine's generation: a number
// in the first four bytes of a page that they may map. It grows whenever the
// machine may go on from a moment from which another one goes on too, so that
// who keeps a seed of its own takes a new one. The interface is that of SysGenID,
// proposed for Linux in 2021 as a device; AWS-LC, and with it Rust's rustls, looks
// for it here before each use of its generator (crypto/ube in its source).
const GenerationFile = "/dev/sysgenid"

// ShowGeneration shows the machine's generation in a file, which an earlier
// agent may have made.
func (s *Service) ShowGeneration(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o444)
	if err == nil {
		err = f.Truncate(int64(os.Getpagesize()))
	}
	if err != nil {
		return fmt.Errorf("show generation: %w", err)
	}
	s.generation = f // open, as the guest may remove it
	return nil
}

// nextGeneration begins another one.
func (s *Service) nextGeneration() error {
	if s.generation == nil {
		return nil
	}
	var b [4]byte
	if _, err := s.generation.ReadAt(b[:], 0); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(b[:], binary.NativeEndian.Uint32(b[:])+1)
	_, err := s.generation.WriteAt(b[:], 0)
	return err
}
