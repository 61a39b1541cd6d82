package machine_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	pb "bulkhead/proto/machine"

	"golang.org/x/sys/unix"
)

// A program that has mapped the generation sees it grow with every restore,
// also after the agent was started again.
func TestGenerationGrows(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to reseed the kernel")
	}
	path := filepath.Join(t.TempDir(), "sysgenid")
	s, _, _ := newService(t)
	if err := s.ShowGeneration(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	if err := os.Remove(path); err != nil { // a guest may
		t.Fatal(err)
	}
	for want := range uint32(3) {
		if got := binary.NativeEndian.Uint32(page); got != want {
			t.Errorf("the generation is %d, want %d", got, want)
		}
		if _, err := resume(t, s, &pb.ResumeRequest{Entropy: []byte("of the host"), Thaw: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, page, 0o444); err != nil {
		t.Fatal(err)
	}
	again, _, _ := newService(t)
	if err := again.ShowGeneration(path); err != nil {
		t.Fatal(err)
	}
	if _, err := resume(t, again, &pb.ResumeRequest{Entropy: []byte("of the host"), Thaw: true}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || binary.NativeEndian.Uint32(b) != 4 {
		t.Errorf("after the agent was started again it is %v, %v, want 4", b, err)
	}
}
