package machine

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setClock steps the guest's clock.
func setClock(unixNanos int64) error {
	ts := unix.NsecToTimespec(unixNanos)
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// maxEntropy is what one call may feed, in bytes.
const maxEntropy = 512

// reseed feeds the kernel's generator and has it use what it was fed at once
// (random(4), RNDADDENTROPY and RNDRESEEDCRNG).
func reseed(f *os.File, entropy []byte) error {
	if len(entropy) > maxEntropy {
		return errors.New("too much entropy")
	}
	// struct rand_pool_info: entropy in bits, size in bytes, the bytes.
	info := make([]byte, 8+len(entropy))
	binary.NativeEndian.PutUint32(info, uint32(len(entropy)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(entropy)))
	copy(info[8:], entropy)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return errno
	}
	const rndReseedCRNG = 0x5207 // _IO('R', 0x07), include/uapi/linux/random.h
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndReseedCRNG, 0); errno != 0 {
		return errno
	}
	return nil
}
