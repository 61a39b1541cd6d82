package qemu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bulkhead/internal/addressing"
	"bulkhead/internal/vmm"
)

// machineType is the machine and its options. They are part of what a saved
// state depends on, so a change makes old snapshots unloadable: Version
// carries them.
//
// rtc, pit and pic stay on: without a clock chip the kernel waits a second
// for one, without the timers it does not boot (measured, QEMU 7.2 under
// TCG). Everything else that the type can have is off.
const machineType = "microvm,acpi=on,rtc=on,pit=on,pic=on,x-option-roms=off,usb=off,graphics=off"

// cmdline is the guest kernel's command line. A panic ends in a reset at once
// (panic=-1) by triple fault (reboot=t), which ends the VMM (-no-reboot).
const cmdline = "console=ttyS0 panic=-1 reboot=t"

func (d *Driver) cmdline() string {
	if d.cfg.Accel == vmm.KVM {
		return cmdline
	}
	// tsc=reliable keeps the kernel from dropping the counter when its watchdog
	// was preempted: the only other clock it has, jiffies, loses time for good.
	return fmt.Sprintf("%s tsc_early_khz=%d tsc=reliable", cmdline, d.tsc())
}

// The sockets in a machine's run directory, in the order in which the VMM
// inherits them, from firstSocket on. The first is how it is controlled.
const (
	ControlSocket = "qmp.sock"
	guestSocket   = "guest.sock"
	consoleSocket = "console.sock"
	firstSocket   = 3
)

func sockets() []string { return []string{ControlSocket, guestSocket, consoleSocket} }

// Where a VMM finds a machine's files in its cage.
const (
	memoryInside = "/m/memory"
	diskInside   = "/m/disk"
	kernelInside = "/m/kernel"
	initrdInside = "/m/initrd"
)

// translations bounds the memory for translated guest code, in MiB. QEMU
// would take 1 GiB (tcg/region.c), which every sandbox would have to be given.
const translations = 256

// argv is QEMU's command line for spec. The order of devices is their order
// on the bus, so it never changes: a state loads only into the same layout.
func (d *Driver) argv(spec vmm.Spec, incoming bool) []string {
	args := []string{
		"-name", "bulkhead-" + spec.ID,
		// Merging equal pages of different machines tells one what another holds.
		"-M", machineType + ",memory-backend=ram,mem-merge=off",
		"-accel", d.accel(spec, incoming),
		"-cpu", d.cpu(),
		"-smp", strconv.Itoa(spec.CPUs),
		"-m", strconv.Itoa(spec.MemoryMiB) + "M",
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=%s,share=on", spec.MemoryMiB, memoryInside),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", socketChardev("qmp", ControlSocket), "-mon", "chardev=qmp,mode=control",
		"-chardev", socketChardev("console", consoleSocket), "-serial", "chardev:console",
		"-kernel", kernelInside, "-initrd", initrdInside, "-append", d.cmdline(),
		"-blockdev", "driver=file,node-name=disk-file,locking=on,discard=unmap,filename=" + diskInside,
		"-blockdev", "driver=raw,node-name=disk,file=disk-file,discard=unmap,detect-zeroes=unmap",
		"-device", networkDevice(spec),
		"-device", "virtio-blk-device,id=blk,drive=disk",
		"-device", "virtio-rng-device,id=rng",
		"-device", "virtio-balloon-device,id=balloon,free-page-reporting=on,deflate-on-oom=on",
		"-device", "virtio-serial-device,id=serial,max_ports=2",
		"-chardev", socketChardev("guest", guestSocket),
		"-device", "virtserialport,bus=serial.0,id=channel,chardev=guest,name=bulkhead",
	}
	if spec.Tap != nil {
		args = append(args, "-netdev", fmt.Sprintf("tap,id=%s,fd=%d,vhost=off", tapName, firstSocket+len(sockets())))
	}
	if incoming {
		args = append(args, "-S", "-incoming", "defer")
	}
	return args
}

// tapName is what the card's other end is called.
const tapName = "tap"

func networkDevice(spec vmm.Spec) string {
	device := "virtio-net-device,id=net,mac=" + addressing.MAC
	if spec.Tap != nil {
		device += ",netdev=" + tapName
	}
	return device
}

// Devices names what a machine consists of, by the command line that its VMM was
// started with. What it does not know it names as QEMU does.
func Devices(argv []string) (all []string) {
	known := map[string]string{
		"virtio-net-device": "network card on a network of its own", "virtio-blk-device": "root disk",
		"virtio-rng-device": "random numbers", "virtio-balloon-device": "balloon", "virtserialport": "channel to the daemon",
		"-serial chardev:console": "serial console",
		"virtio-serial-device":    "", // what the channel is plugged into
	}
	for i, arg := range argv[:max(0, len(argv)-1)] {
		if arg != "-device" && arg != "-serial" {
			continue
		}
		device, _, _ := strings.Cut(argv[i+1], ",")
		if arg == "-serial" {
			device = arg + " " + argv[i+1]
		}
		words, ok := known[device]
		if !ok {
			words = device
		}
		if words != "" {
			all = append(all, words)
		}
	}
	return all
}

// socketChardev is a socket that listens already: a VMM in its cage makes none.
func socketChardev(id, name string) string {
	return fmt.Sprintf("socket,id=%s,server=on,wait=off,fd=%d", id, firstSocket+slices.Index(sockets(), name))
}

// accel chooses how guest code runs. Under TCG a boot runs on one thread:
// with one thread per CPU, 13 of 140 boots hung in the kernel's calibration
// loops; with one, 0 of 40 (measured). A restored machine is past them.
func (d *Driver) accel(spec vmm.Spec, incoming bool) string {
	if d.cfg.Accel == vmm.KVM {
		return "kvm"
	}
	if incoming && spec.CPUs > 1 {
		return fmt.Sprintf("tcg,thread=multi,tb-size=%d", translations)
	}
	return fmt.Sprintf("tcg,thread=single,tb-size=%d", translations)
}

func (d *Driver) cpu() string {
	if d.cfg.Accel == vmm.KVM {
		return "host"
	}
	return "max"
}
