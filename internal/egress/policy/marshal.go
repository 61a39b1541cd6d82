package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Marshal returns the policy as a canonical YAML document, from which Parse
// makes an equal one. Comments outside of rules are not kept.
func (p *Policy) Marshal() []byte {
	var b strings.Builder
	line := func(write bool, format string, args ...any) {
		if write {
			fmt.Fprintf(&b, format+"\n", args...)
		}
	}
	line(true, "version: 1")
	line(len(p.Use) > 0, "use: [%s]", strings.Join(p.Use, ", "))
	line(true, "default: %s", p.Default)
	line(p.Limits != nil, "limits: {%s}", p.Limits)
	line(p.Inside != nil, "inside: [%s]", strings.Join(p.Inside, ", "))
	line(len(p.Rules) > 0, "rules:")
	for _, r := range p.Rules {
		line(true, "  - {%s}", r.document())
	}
	return []byte(b.String())
}

// document writes the rule's fields. Names and ranges are quoted for their
// "*" and ":"; Go and YAML quote printable text alike.
func (r Rule) document() string {
	var l list
	l.add(r.Name != "", "name: %q", r.Name)
	l.add(r.CIDR.IsValid(), "cidr: %q", r.CIDR)
	l.add(len(r.Ports) > 0, "ports: [%s]", formatPorts(r.Ports, ", "))
	l.add(true, "action: %s", r.Action)
	l.add(r.Limits != nil, "limits: {%s}", r.Limits)
	l.add(len(r.Secrets) > 0, "secrets: [%s]", r.secrets())
	l.add(r.Comment != "", "comment: %q", r.Comment)
	return strings.Join(l, ", ")
}

// String returns the rule in one line: "allow *.example.com ports 80,443".
func (r Rule) String() string {
	l := list{string(r.Action) + " " + r.target()}
	every := slices.Equal(r.ports(), everyPort())
	l.add(every, "all ports")
	l.add(!every, "ports %s", formatPorts(r.ports(), ","))
	l.add(r.Limits != nil, "limits {%s}", r.Limits)
	for _, secret := range r.Secrets {
		l.add(true, "with secret %s", secret)
	}
	l.add(r.Comment != "", "# %s", r.Comment)
	return strings.Join(l, " ")
}

// String returns the limits as a document has them: "upload: 20MB, per: 24h".
func (l *Limits) String() string {
	if l == nil {
		return ""
	}
	var s list
	s.add(l.UploadBytes > 0, "upload: %s", formatSize(l.UploadBytes))
	s.add(l.DownloadBytes > 0, "download: %s", formatSize(l.DownloadBytes))
	s.add(l.Per > 0, "per: %s", formatDuration(l.Per))
	s.add(l.Connections > 0, "connections: %d", l.Connections)
	s.add(l.Rate > 0, "rate: %d", l.Rate)
	return strings.Join(s, ", ")
}

// list is a line in the making.
type list []string

func (l *list) add(really bool, format string, args ...any) {
	if really {
		*l = append(*l, fmt.Sprintf(format, args...))
	}
}

// String returns the range as ParsePorts reads it.
func (p PortRange) String() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

func formatPorts(ports []PortRange, separator string) string {
	var l list
	for _, p := range ports {
		l.add(true, "%s", p)
	}
	return strings.Join(l, separator)
}

func formatSize(n int64) string {
	i := slices.IndexFunc(units, func(u unit) bool { return n%u.bytes == 0 })
	return fmt.Sprintf("%d%s", n/units[i].bytes, units[i].name)
}

func formatDuration(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
