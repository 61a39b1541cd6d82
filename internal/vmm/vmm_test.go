package vmm_test

import (
	"strings"
	"testing"

	"bulkhead/internal/vmm"
)

func TestCheck(t *testing.T) {
	smallest := vmm.Spec{
		ID: "a", CPUs: 1, MemoryMiB: 64,
		Memory: "/m", Disk: "/d", Kernel: "/k", Initrd: "/i", RunDir: "/r",
	}
	for _, tt := range []struct {
		name   string
		change func(*vmm.Spec)
		want   string // what the error says; "" for none
	}{
		{"the smallest is accepted", func(*vmm.Spec) {}, ""},
		{"the most cpus are accepted", func(s *vmm.Spec) { s.CPUs = 64 }, ""},
		{"the longest run directory is accepted", func(s *vmm.Spec) { s.RunDir = "/" + strings.Repeat("r", 79) }, ""},
		{"no id is refused", func(s *vmm.Spec) { s.ID = "" }, "without an id"},
		{"no cpu is refused", func(s *vmm.Spec) { s.CPUs = 0 }, "cpus 0"},
		{"fewer than no cpus are refused", func(s *vmm.Spec) { s.CPUs = -1 }, "cpus -1"},
		{"too many cpus are refused", func(s *vmm.Spec) { s.CPUs = 65 }, "cpus 65"},
		{"too little memory is refused", func(s *vmm.Spec) { s.MemoryMiB = 62 }, "memory 62 MiB"},
		{"odd memory is refused", func(s *vmm.Spec) { s.MemoryMiB = 65 }, "memory 65 MiB"},
		{"a relative path is refused", func(s *vmm.Spec) { s.Disk = "d" }, `"d": not absolute`},
		{"a missing path is refused", func(s *vmm.Spec) { s.Kernel = "" }, "not absolute"},
		{"a longer run directory is refused", func(s *vmm.Spec) { s.RunDir = "/" + strings.Repeat("r", 80) }, "longer than 80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := smallest
			tt.change(&spec)
			switch err := spec.Check(); {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
