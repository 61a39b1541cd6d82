// Package addressing holds the addresses that a machine and its network agree
// on. They are the same for every machine, so a restored one fits into any
// network as it is.
//
// addressing knows nobody who uses them.
package addressing

import "net/netip"

const (
	// MAC is the guest's. The first byte marks it as locally administered
	// (IEEE 802).
	MAC = "52:54:00:00:00:01"
	// GatewayMAC is the host's: a restored guest remembers it.
	GatewayMAC = "52:54:00:00:00:fe"
	// Device is the guest's name for it.
	Device = "eth0"
)

// Link is the network between the two, from the largest private range (RFC
// 1918).
func Link() netip.Prefix { return netip.MustParsePrefix("10.11.0.0/30") }

// Gateway is the host's end of it, where the guest also asks for names.
func Gateway() netip.Addr { return netip.MustParseAddr("10.11.0.1") }

// Guest is the machine's end.
func Guest() netip.Addr { return netip.MustParseAddr("10.11.0.2") }
