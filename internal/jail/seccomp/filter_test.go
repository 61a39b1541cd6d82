package seccomp_test

import (
	"encoding/binary"
	"testing"

	"bulkhead/internal/jail/seccomp"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The answers of a filter (seccomp(2)).
const (
	end    = 0x80000000
	allow  = 0x7fff0000
	absent = 0x00050000 | int(unix.ENOSYS)
)

func TestFilter(t *testing.T) {
	vm := newVM(t, seccomp.List{
		Allow:  []string{"read", "clone", "prlimit64", "prctl", "ioctl", "exit_group"},
		Ioctls: []uint32{unix.TUNGETIFF},
		Absent: []string{"clone3", "io_uring_setup"},
	})
	// The numbers that a call with wrong arguments must not be taken for.
	const asPrlimit, asPrctl = 302, 157
	for _, tt := range []struct {
		name string
		call call
		want int
	}{
		{"what is listed works", call{nr: unix.SYS_READ}, allow},
		{"also with any arguments", call{nr: unix.SYS_READ, args: [6]uint64{1, 2, 3, 4, 5, 1 << 63}}, allow},
		{"the last one works", call{nr: unix.SYS_EXIT_GROUP}, allow},
		{"what is not listed ends", call{nr: unix.SYS_WRITE}, end},
		{"a number beyond all ends", call{nr: 1 << 20}, end},
		{"what is absent is not there", call{nr: unix.SYS_CLONE3}, absent},
		{"the other calling convention ends", call{nr: unix.SYS_READ | 0x40000000}, end},
		{"the highest number ends", call{nr: 0xffffffff}, end},
		{"another architecture ends", call{nr: unix.SYS_READ, arch: 0x40000003}, end},
		{"a thread may be made", call{nr: unix.SYS_CLONE, args: [6]uint64{unix.CLONE_THREAD | unix.CLONE_VM}}, allow},
		{"a process may not", call{nr: unix.SYS_CLONE, args: [6]uint64{unix.CLONE_VM}}, end},
		{"nor with what is no flag", call{nr: unix.SYS_CLONE, args: [6]uint64{unix.CLONE_THREAD << 32}}, end},
		{"limits may be read", call{nr: unix.SYS_PRLIMIT64, args: [6]uint64{0, 7, 0, 1 << 40}}, allow},
		{"limits may not be set", call{nr: unix.SYS_PRLIMIT64, args: [6]uint64{0, 7, 1}}, end},
		{"nor from an address with no low half", call{nr: unix.SYS_PRLIMIT64, args: [6]uint64{0, 7, 1 << 32}}, end},
		{"a thread may be named", call{nr: unix.SYS_PRCTL, args: [6]uint64{unix.PR_SET_NAME}}, allow},
		{"rights may be given up", call{nr: unix.SYS_PRCTL, args: [6]uint64{unix.PR_SET_SECCOMP, 2}}, allow},
		{"a process may not be made dumpable", call{nr: unix.SYS_PRCTL, args: [6]uint64{unix.PR_SET_DUMPABLE, 1}}, end},
		{"nor by a number with a high half", call{nr: unix.SYS_PRCTL, args: [6]uint64{1<<32 | unix.PR_SET_NAME}}, end},
		{"what the tap is asked may be", call{nr: unix.SYS_IOCTL, args: [6]uint64{3, unix.TUNGETIFF}}, allow},
		{"what a terminal is told may not", call{nr: unix.SYS_IOCTL, args: [6]uint64{0, unix.TIOCSTI}}, end},
		{"arguments are not taken for a number", call{nr: unix.SYS_CLONE, args: [6]uint64{asPrlimit, 0, 0}}, end},
		{"in no call that is narrowed", call{nr: unix.SYS_PRLIMIT64, args: [6]uint64{asPrctl, asPrctl, asPrctl}}, end},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := vm.Run(tt.call.bytes())
			if err != nil || uint32(got) != uint32(tt.want) {
				t.Errorf("answer %#x, error %v, want %#x", got, err, tt.want)
			}
		})
	}
}

func TestFilterOfUnknownCall(t *testing.T) {
	if _, err := (seccomp.List{Allow: []string{"no_such_call"}}).Compile(); err == nil {
		t.Error("compiled")
	}
}

// FuzzFilter checks that nothing but what is allowed is, whatever it is
// called with.
func FuzzFilter(f *testing.F) {
	f.Add(uint32(unix.SYS_CLONE), uint64(unix.CLONE_THREAD), uint64(0))
	f.Add(uint32(unix.SYS_PRLIMIT64), uint64(0), uint64(1<<32))
	f.Add(uint32(unix.SYS_READ)|0x40000000, uint64(0), uint64(0))
	vm := newVM(f, seccomp.List{Allow: []string{"read", "clone", "prlimit64"}, Absent: []string{"clone3"}})
	f.Fuzz(func(t *testing.T, nr uint32, first, third uint64) {
		got, err := vm.Run(call{nr: nr, args: [6]uint64{first, 0, third}}.bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := end
		switch {
		case nr == unix.SYS_READ, nr == unix.SYS_CLONE && first&unix.CLONE_THREAD != 0, nr == unix.SYS_PRLIMIT64 && third == 0:
			want = allow
		case nr == unix.SYS_CLONE3:
			want = absent
		}
		if uint32(got) != uint32(want) {
			t.Errorf("answer %#x, want %#x", got, want)
		}
	})
}

func newVM(t testing.TB, l seccomp.List) *bpf.VM {
	t.Helper()
	program, err := l.Compile()
	if err != nil {
		t.Fatal(err)
	}
	instructions, all := bpf.Disassemble(program)
	if !all {
		t.Fatal("has instructions that are none")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// call is a system call as a filter sees it.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// bytes has every half in the order of networks, in which the simulation
// reads; the low half comes first as on the real machine.
func (c call) bytes() []byte {
	if c.arch == 0 {
		c.arch = uint32(arch.X86_64.ID)
	}
	b := binary.BigEndian.AppendUint32(nil, c.nr)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	b = append(b, make([]byte, 8)...) // the instruction's address
	for _, a := range c.args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	return b
}
