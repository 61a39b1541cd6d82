package network

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// chainText says where a chain stands and what becomes of what it does not
// decide about.
func chainText(c *nftables.Chain) string {
	hook, priority, policy := "no hook", "", "accept"
	if c.Hooknum != nil {
		hook = fmt.Sprintf("hook %d", *c.Hooknum)
	}
	if c.Priority != nil {
		priority = fmt.Sprintf(" priority %d", *c.Priority)
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		policy = "drop"
	}
	return fmt.Sprintf("%s: %s %s%s policy %s", chainName(c), c.Type, hook, priority, policy)
}

func chainName(c *nftables.Chain) string {
	family := map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyNetdev: "netdev"}[c.Table.Family]
	if family == "" {
		family = fmt.Sprint(c.Table.Family)
	}
	return family + " " + c.Table.Name + " " + c.Name
}

// ruleText writes a rule much as nft(8) does, with what is compared in bits and
// hexadecimal. Two rules with the same text do the same.
func ruleText(exprs []expr.Any) string {
	var words []string
	for _, e := range exprs {
		words = append(words, exprText(e))
	}
	return strings.Join(words, " ")
}

func exprText(e expr.Any) string {
	switch e := e.(type) {
	case *expr.Meta:
		return metaText(e)
	case *expr.Payload:
		base := map[expr.PayloadBase]string{
			expr.PayloadBaseLLHeader: "ll", expr.PayloadBaseNetworkHeader: "nh", expr.PayloadBaseTransportHeader: "th",
		}[e.Base]
		return fmt.Sprintf("@%s,%d,%d", base, 8*e.Offset, 8*e.Len)
	case *expr.Cmp:
		return map[expr.CmpOp]string{expr.CmpOpEq: "==", expr.CmpOpNeq: "!="}[e.Op] + " " + dataText(e.Data)
	case *expr.Ct:
		return fmt.Sprintf("ct %d", e.Key)
	case *expr.Bitwise:
		return fmt.Sprintf("& %s ^ %s", dataText(e.Mask), dataText(e.Xor))
	case *expr.Immediate:
		return "with " + dataText(e.Data)
	case *expr.Limit:
		return fmt.Sprintf("limit %d over %t %d per %d burst %d", e.Type, e.Over, e.Rate, e.Unit, e.Burst)
	case *expr.Redir:
		return "redirect"
	case *expr.Objref:
		return fmt.Sprintf("object %d %s", e.Type, e.Name)
	case *expr.Reject:
		return fmt.Sprintf("reject %d %d", e.Type, e.Code)
	case *expr.Verdict:
		return map[expr.VerdictKind]string{expr.VerdictAccept: "accept", expr.VerdictDrop: "drop"}[e.Kind] + e.Chain
	}
	return fmt.Sprintf("%T", e)
}

func metaText(e *expr.Meta) string {
	name := map[expr.MetaKey]string{
		expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyNFPROTO: "nfproto", expr.MetaKeyL4PROTO: "l4proto",
		expr.MetaKeyPROTOCOL: "protocol", expr.MetaKeyPKTTYPE: "pkttype",
	}[e.Key]
	if name == "" || e.SourceRegister {
		return fmt.Sprintf("meta %d %v", e.Key, e.SourceRegister)
	}
	return name
}

// dataText writes a device's name as text and all else in hexadecimal.
func dataText(b []byte) string {
	if name := bytes.TrimRight(b, "\x00"); string(name) == TapName {
		return TapName
	}
	return fmt.Sprintf("0x%x", b)
}
