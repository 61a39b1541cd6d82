// Package seccomp makes filters of system calls from lists of names, installs
// them, and finds out what a filter ended a process for.
//
// seccomp must not know why something is on a list. It has no state.
package seccomp

import (
	"fmt"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// List says which system calls a program may make. All others end it.
//
// Three of those that may be allowed are narrowed for every program: clone
// makes threads only, prlimit64 reads only, and prctl names threads, gives
// rights up and tunes only.
type List struct {
	// Allow are the names of those that work.
	Allow []string
	// Ioctls are the requests that ioctl may make, if that is allowed; nil for
	// all.
	Ioctls []uint32
	// Absent are those that the kernel claims not to have, for programs that
	// try them and can do without.
	Absent []string
}

// Op is an instruction of a filter, in the kernel's form.
type Op = bpf.RawInstruction

// The answers of a filter (seccomp(2), SECCOMP_RET_…).
const (
	answerEnd    = 0x80000000 // the whole process
	answerAllow  = 0x7fff0000
	answerAbsent = 0x00050000 | uint32(unix.ENOSYS)
)

// x32 marks the numbers of another calling convention, which reach the same
// system calls (__X32_SYSCALL_BIT).
const x32 = 0x40000000

// Where a filter finds what it judges (struct seccomp_data).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16 // 8 bytes each, the low half first
)

// Compile returns the filter of the list. It is a list of blocks, one for
// each system call, that end in an answer or jump over themselves: none can
// run into another with an argument where the number should be. It is an error
// if a name is none.
func (l List) Compile() ([]Op, error) {
	program := []bpf.Instruction{
		load(offArch),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(arch.X86_64.ID), SkipTrue: 1}, answer(answerEnd),
		load(offNumber),
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1}, answer(answerEnd),
	}
	for _, list := range []struct {
		names  []string
		answer uint32
	}{{l.Allow, answerAllow}, {l.Absent, answerAbsent}} {
		for _, name := range list.names {
			number, ok := arch.X86_64.SyscallNames[name]
			if !ok {
				return nil, fmt.Errorf("unknown system call %q", name)
			}
			block := append(l.narrow(name), answer(list.answer))
			program = append(program, bpf.JumpIf{
				Cond: bpf.JumpNotEqual, Val: uint32(number), SkipTrue: uint8(len(block)),
			})
			program = append(program, block...)
		}
	}
	return bpf.Assemble(append(program, answer(answerEnd)))
}

func load(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }
func answer(what uint32) bpf.Instruction { return bpf.RetConstant{Val: what} }

// narrow returns what comes before the answer of a system call that is
// allowed in part: it ends the process unless the arguments are right.
func (l List) narrow(name string) []bpf.Instruction {
	switch name {
	case "ioctl":
		if l.Ioctls != nil {
			return mustBe(1, l.Ioctls...)
		}
	case "clone": // the kernel takes no more than the low half of the flags here
		return []bpf.Instruction{
			load(offArgs),
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipTrue: 1}, answer(answerEnd),
		}
	case "prlimit64": // the third argument is a pointer to new limits
		return mustBe(2, 0)
	case "prctl":
		options := []uint32{
			unix.PR_SET_NAME, unix.PR_SET_TIMERSLACK, unix.PR_MCE_KILL, unix.PR_SET_VMA,
			unix.PR_GET_DUMPABLE, unix.PR_CAPBSET_READ, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP,
			unix.PR_SET_NO_NEW_PRIVS, unix.PR_SET_SECCOMP,
		}
		return mustBe(0, options...)
	}
	return nil
}

// mustBe goes on if an argument is one of values, else ends the process.
func mustBe(argument uint32, values ...uint32) []bpf.Instruction {
	block := []bpf.Instruction{
		load(offArgs + 8*argument + 4),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, answer(answerEnd),
		load(offArgs + 8*argument),
	}
	for i, v := range values {
		left := len(values) - i // what is to be jumped over: the others and the end
		block = append(block, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(left)})
	}
	return append(block, answer(answerEnd))
}
