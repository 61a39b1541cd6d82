package network

import (
	"fmt"
	"net"

	"bulkhead/internal/addressing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is our table in each namespace.
const tableName = "bulkhead"

// The reasons for which packets are dropped, which are the names of counters.
const (
	Spoofed = "spoofed" // from an address that is not the guest's
	IPv6    = "ipv6"
	ICMP    = "icmp"
	UDP     = "udp"
	Other   = "other"
)

// rules builds one table.
type rules struct {
	conn  *nftables.Conn
	table *nftables.Table
}

// addRules sets all rules of a namespace at once. It runs inside it.
func addRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	r := rules{conn, conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})}
	for _, name := range []string{Spoofed, IPv6, ICMP, UDP, Other} {
		conn.AddObj(&nftables.CounterObj{Table: r.table, Name: name})
	}
	if err := r.onlyTheGuest(); err != nil {
		return err
	}
	r.redirect()
	r.perimeter()
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "forward", Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	return conn.Flush()
}

// onlyTheGuest drops what is not from the guest's own addresses, before
// anything else looks at it.
func (r rules) onlyTheGuest() error {
	mac, err := net.ParseMAC(addressing.MAC)
	if err != nil {
		return err
	}
	c := r.conn.AddChain(&nftables.Chain{
		Name: "origin", Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	r.add(c, fromTap(), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}, // source MAC
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: mac},
	}, count(Spoofed), drop())
	r.add(c, fromTap(), protocolFamily(unix.NFPROTO_IPV6), count(IPv6), drop())
	guest := addressing.Guest().As4()
	r.add(c, fromTap(), protocolFamily(unix.NFPROTO_IPV4), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // source address
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: guest[:]},
	}, count(Spoofed), drop())
	return nil
}

// redirect sends names and streams to the daemon's sockets, whatever address
// they were for.
func (r rules) redirect() {
	c := r.conn.AddChain(&nftables.Chain{
		Name: "redirect", Table: r.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	r.add(c, fromTap(), protocol(unix.IPPROTO_UDP), port(namesPort), to(namesPort))
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), port(namesPort), to(namesPort))
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), to(proxyPort))
}

// perimeter lets the guest reach the daemon's sockets and answer what came from
// them; all else is dropped. It stands where destinations have been redirected
// already but nobody has looked for a route, of which there is none to count
// at. What the guest should know at once is refused: the refusal goes to nobody
// but the guest.
func (r rules) perimeter() {
	c := r.conn.AddChain(&nftables.Chain{
		Name: "perimeter", Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter,
	})
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	r.add(c, fromTap(), protocol(unix.IPPROTO_UDP), port(namesPort), accept)
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), port(namesPort), accept)
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), port(proxyPort), accept)
	r.add(c, fromTap(), established(), accept)
	refuse := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
	r.add(c, fromTap(), protocol(unix.IPPROTO_UDP), count(UDP), refuse)
	r.add(c, fromTap(), protocol(unix.IPPROTO_ICMP), count(ICMP), drop())
	r.add(c, fromTap(), count(Other), drop())
}

func (r rules) add(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: all})
}

func fromTap() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, TapName)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

func protocolFamily(family byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// port compares the destination's, which UDP and TCP have in the same place.
func port(number uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

func established() []expr.Any {
	state := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	none := binaryutil.NativeEndian.PutUint32(0)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: state, Xor: none},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: none},
	}
}

func to(number uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

func count(reason string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: reason}}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

// Dropped counts the packets that were dropped, by reason.
func (l *Link) Dropped() (map[string]uint64, error) {
	dropped := map[string]uint64{}
	err := l.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		objects, err := conn.GetObjects(table)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		for _, o := range objects {
			if c, ok := o.(*nftables.CounterObj); ok {
				dropped[c.Name] = c.Packets
			}
		}
		return nil
	})
	return dropped, err
}
