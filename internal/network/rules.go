package network

import (
	"fmt"
	"net"
	"slices"

	"bulkhead/internal/addressing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is that of our two tables in each namespace: one sees the tap's
// frames, the other the packets in them.
const tableName = "bulkhead"

// The reasons for which packets are dropped, which are the names of counters.
const (
	Spoofed = "spoofed" // from an address that is not the guest's
	IPv6    = "ipv6"
	ICMP    = "icmp"
	UDP     = "udp"
	Flood   = "flood" // the first packet of a connection, of more than there may be
	Other   = "other" // another protocol, or for another machine
)

// The kernel remembers every connection that is tried, for up to two minutes
// (nf_conntrack-sysctl: tcp_timeout_syn_sent), in memory of the host. At most
// this many begin in a second, after a burst; whoever tries again a second later
// is let in.
const newRate, newBurst = 500, 2000

// rules builds one table.
type rules struct {
	conn  *nftables.Conn
	table *nftables.Table
	// text is what was built, in the form in which it is read back.
	text []string
}

// newRules begins a table with a counter for each reason.
func newRules(family nftables.TableFamily, reasons ...string) (*rules, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	r := &rules{conn: conn, table: conn.AddTable(&nftables.Table{Family: family, Name: tableName})}
	for _, name := range reasons {
		conn.AddObj(&nftables.CounterObj{Table: r.table, Name: name})
	}
	return r, nil
}

// set puts rules in force at once. It runs inside the namespace.
func set(build func() (*rules, error)) error {
	r, err := build()
	if err != nil {
		return err
	}
	return r.conn.Flush()
}

// intendedRules is what has to be in force, in the form in which it is read back.
func intendedRules() (text []string, err error) {
	for _, build := range []func() (*rules, error){packetRules, frameRules} {
		r, err := build()
		if err != nil {
			return nil, err
		}
		text = append(text, r.text...)
	}
	return text, nil
}

// packetRules are all about packets.
func packetRules() (*rules, error) {
	r, err := newRules(nftables.TableFamilyINet, Spoofed, IPv6, ICMP, UDP, Flood, Other)
	if err != nil {
		return nil, err
	}
	if err := r.onlyTheGuest(); err != nil {
		return nil, err
	}
	r.redirect()
	r.perimeter()
	drop := nftables.ChainPolicyDrop
	r.chain(&nftables.Chain{
		Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	return r, nil
}

// frameRules drop frames that the rules about packets never see: those that are
// not for this end of the link, carry neither IPv4 nor ARP, or have ARP say what
// is not true. The tap must be there, and not be switched on yet.
func frameRules() (*rules, error) {
	mac, err := net.ParseMAC(addressing.MAC)
	if err != nil {
		return nil, err
	}
	r, err := newRules(nftables.TableFamilyNetdev, Spoofed, IPv6, Other)
	if err != nil {
		return nil, err
	}
	c := r.chain(&nftables.Chain{
		Name: "frames", Type: nftables.ChainTypeFilter, Device: TapName,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
	})
	guest, none := addressing.Guest().As4(), [4]byte{}
	r.add(c, payload(expr.PayloadBaseLLHeader, 6, 6), is(expr.CmpOpNeq, mac), count(Spoofed), drop()) // source
	r.add(c, meta(expr.MetaKeyPKTTYPE), is(expr.CmpOpEq, []byte{unix.PACKET_OTHERHOST}), count(Other), drop())
	r.add(c, carries(expr.CmpOpEq, unix.ETH_P_IPV6), count(IPv6), drop())
	arp := carries(expr.CmpOpEq, unix.ETH_P_ARP)
	// Sender's MAC and address (RFC 826); whoever asks whether an address is
	// taken has none yet (RFC 5227).
	r.add(c, arp, payload(expr.PayloadBaseNetworkHeader, 8, 6), is(expr.CmpOpNeq, mac), count(Spoofed), drop())
	r.add(c, arp, payload(expr.PayloadBaseNetworkHeader, 14, 4), is(expr.CmpOpNeq, guest[:]), is(expr.CmpOpNeq, none[:]), count(Spoofed), drop())
	r.add(c, carries(expr.CmpOpNeq, unix.ETH_P_IP), carries(expr.CmpOpNeq, unix.ETH_P_ARP), count(Other), drop())
	return r, nil
}

// onlyTheGuest drops what is not from the guest's own addresses, before
// anything else looks at it.
func (r *rules) onlyTheGuest() error {
	mac, err := net.ParseMAC(addressing.MAC)
	if err != nil {
		return err
	}
	c := r.chain(&nftables.Chain{
		Name: "origin", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	r.add(c, fromTap(), payload(expr.PayloadBaseLLHeader, 6, 6), is(expr.CmpOpNeq, mac), count(Spoofed), drop())
	r.add(c, fromTap(), protocolFamily(unix.NFPROTO_IPV6), count(IPv6), drop())
	guest := addressing.Guest().As4()
	r.add(c, fromTap(), protocolFamily(unix.NFPROTO_IPV4),
		payload(expr.PayloadBaseNetworkHeader, 12, 4), is(expr.CmpOpNeq, guest[:]), count(Spoofed), drop()) // source address
	return nil
}

// redirect sends names and streams to the daemon's sockets, whatever address
// they were for. It sees the first packet of each connection.
func (r *rules) redirect() {
	c := r.chain(&nftables.Chain{
		Name: "redirect", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	many := []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: newRate, Unit: expr.LimitTimeSecond, Burst: newBurst, Over: true}}
	r.add(c, fromTap(), many, count(Flood), drop())
	r.add(c, fromTap(), protocol(unix.IPPROTO_UDP), port(namesPort), to(namesPort))
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), port(namesPort), to(namesPort))
	r.add(c, fromTap(), protocol(unix.IPPROTO_TCP), to(proxyPort))
}

// perimeter lets the guest reach the daemon's sockets and answer what came from
// them; all else is dropped. It stands where destinations have been redirected
// already but nobody has looked for a route, of which there is none to count
// at. What the guest should know at once is refused: the refusal goes to nobody
// but the guest.
func (r *rules) perimeter() {
	c := r.chain(&nftables.Chain{
		Name: "perimeter", Type: nftables.ChainTypeFilter,
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

func (r *rules) chain(c *nftables.Chain) *nftables.Chain {
	c.Table = r.table
	r.text = append(r.text, chainText(c))
	return r.conn.AddChain(c)
}

func (r *rules) add(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	r.text = append(r.text, chainName(c)+": "+ruleText(all))
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: all})
}

func fromTap() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, TapName)
	return slices.Concat(meta(expr.MetaKeyIIFNAME), is(expr.CmpOpEq, name))
}

func protocolFamily(family byte) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyNFPROTO), is(expr.CmpOpEq, []byte{family}))
}

func protocol(number byte) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyL4PROTO), is(expr.CmpOpEq, []byte{number}))
}

// carries compares what a frame carries, an EtherType.
func carries(op expr.CmpOp, ethertype uint16) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyPROTOCOL), is(op, binaryutil.BigEndian.PutUint16(ethertype)))
}

// port compares the destination's, which UDP and TCP have in the same place.
func port(number uint16) []expr.Any {
	return slices.Concat(payload(expr.PayloadBaseTransportHeader, 2, 2), is(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(number)))
}

// meta and payload load what is compares: something about the packet, and bytes
// of it.
func meta(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: 1}} }

func payload(base expr.PayloadBase, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

func is(op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
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
		for _, family := range []nftables.TableFamily{nftables.TableFamilyNetdev, nftables.TableFamilyINet} {
			objects, err := conn.GetObjects(&nftables.Table{Family: family, Name: tableName})
			if err != nil {
				return fmt.Errorf("read counters: %w", err)
			}
			for _, o := range objects {
				if c, ok := o.(*nftables.CounterObj); ok {
					dropped[c.Name] += c.Packets
				}
			}
		}
		return nil
	})
	return dropped, err
}
