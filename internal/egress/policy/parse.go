package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/internal/fault"

	"go.yaml.in/yaml/v3"
)

// Parse reads a policy document, YAML or JSON (less its escapes \/ and
// surrogates, which YAML has not), of at most MaxDocument bytes.
// It takes nothing that it does not understand. The error is of kind
// fault.Invalid and one line, about the first thing that is wrong:
//
//	line 7: rules[2].ports: 0 is not a port from 1 to 65535
func Parse(doc []byte) (*Policy, error) {
	if len(doc) > MaxDocument {
		return nil, fault.New(fault.Invalid, "document has %d bytes, of %d at most", len(doc), MaxDocument)
	}
	var root, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	err := decoder.Decode(&root)
	if errors.Is(err, io.EOF) || err == nil && len(root.Content) == 0 {
		return nil, fault.New(fault.Invalid, "document is empty")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "line %d: something follows the document", max(more.Line, 1))
	}
	d := &document{}
	p := d.policy(value{root.Content[0], ""})
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

// document reads values. It keeps the first error, after which what it
// returns is of no use.
type document struct{ err error }

// value is a node of a document and its name in errors. A value that the
// document does not have is zero, and so is what is read from it.
type value struct {
	node *yaml.Node
	path string
}

func (d *document) policy(v value) *Policy {
	f := d.fields(v, "version", "use", "default", "limits", "inside", "rules")
	if version := d.text(f["version"], "!!int"); version != "" && version != "1" {
		d.fail(f["version"], fmt.Errorf("%s is not 1, the only version there is", quote(version)))
	}
	p := &Policy{Default: d.action(f["default"], Deny, Ask, Public), Limits: d.limits(f["limits"], nil)}
	inherited := Deny
	for _, item := range d.items(f["use"], len(Presets())) {
		name := d.text(item, "!!str")
		u, ok := Preset(name)
		switch {
		case !ok:
			d.fail(item, fmt.Errorf("%s is not one of the presets %s", quote(name), strings.Join(Presets(), ", ")))
			return nil
		case slices.Contains(p.Use, name):
			d.fail(item, fmt.Errorf("%s appears twice", name))
		case u.Default == Public:
			inherited = Public
		}
		p.Use, p.used = append(p.Use, name), append(p.used, u)
	}
	if p.Default == "" {
		p.Default = inherited
	}
	p.Inside = d.inside(f["inside"])
	items := d.items(f["rules"], MaxRules)
	for _, item := range items {
		p.Rules = append(p.Rules, d.rule(item, p.Limits))
	}
	if later, earlier := contradiction(p.Rules); later >= 0 {
		d.fail(items[later], fmt.Errorf("its limits contradict those of rules[%d], which is about the same", earlier))
	}
	if i, variable := ambiguous(p.Rules); i >= 0 {
		d.fail(items[i], fmt.Errorf("%s is another secret's already", quote(variable)))
	}
	return p
}

// inside reads what a machine may ask; an empty list is not nil.
func (d *document) inside(v value) (asks []string) {
	if v.node == nil {
		return nil
	}
	asks = []string{}
	for _, item := range d.items(v, len(Asks())) {
		what := d.text(item, "!!str")
		if !slices.Contains(Asks(), what) || slices.Contains(asks, what) {
			d.fail(item, fmt.Errorf("%s is not one of %s, or appears twice", quote(what), strings.Join(Asks(), ", ")))
		}
		asks = append(asks, what)
	}
	return asks
}

func (d *document) rule(v value, whole *Limits) Rule {
	f := d.fields(v, "name", "cidr", "ports", "action", "limits", "secrets", "comment")
	r := Rule{Action: d.action(f["action"], Allow, Deny, Ask), Limits: d.limits(f["limits"], whole)}
	r.Name = read(d, f["name"], parsePattern)
	r.CIDR = read(d, f["cidr"], parseCIDR)
	r.Ports = d.ports(f["ports"])
	for _, item := range d.items(f["secrets"], maxSecrets) {
		r.Secrets = append(r.Secrets, d.secret(item))
	}
	r.Comment = read(d, f["comment"], parseComment)
	d.fail(v, r.check())
	return r
}

func (d *document) secret(v value) Secret {
	f := d.fields(v, "name", "header", "env")
	s := Secret{
		Name: read(d, f["name"], parseSecretName), Header: read(d, f["header"], parseHeader),
		Env: read(d, f["env"], parseVariable),
	}
	d.fail(v, s.check())
	return s
}

func (d *document) ports(v value) []PortRange {
	if v.node == nil {
		return nil
	}
	items := []value{v}
	if v.node.Kind != yaml.ScalarNode {
		if items = d.items(v, MaxDocument); len(items) == 0 {
			d.fail(v, errors.New("the list is empty: leave it out for the usual ports"))
		}
	}
	var ports []PortRange
	for _, item := range items {
		text := d.text(item, "!!int", "!!str")
		if text == "" || strings.Contains(text, ",") {
			d.fail(value{item.node, v.path}, fmt.Errorf("%s is not a port or a range of ports", quote(text)))
		}
		some, err := ParsePorts(text)
		d.fail(value{item.node, v.path}, err)
		ports = append(ports, some...)
	}
	joined, err := joinPorts(ports)
	d.fail(v, err)
	return joined
}

// limits reads limits, which for a rule have to be within the sandbox's.
func (d *document) limits(v value, whole *Limits) *Limits {
	if v.node == nil {
		return nil
	}
	f := d.fields(v, "upload", "download", "per", "connections", "rate")
	l := &Limits{
		UploadBytes: read(d, f["upload"], parseSize), DownloadBytes: read(d, f["download"], parseSize),
		Per:         read(d, f["per"], parseDuration),
		Connections: d.count(f["connections"], 65535), Rate: d.count(f["rate"], 1e6),
	}
	bytes := l.UploadBytes > 0 || l.DownloadBytes > 0
	switch {
	case bytes && l.Per == 0:
		l.Per = 24 * time.Hour
	case !bytes && l.Per > 0:
		d.fail(f["per"], errors.New("there is no upload or download that it could be for"))
	case *l == Limits{}:
		d.fail(v, errors.New("there is none: want upload, download, connections or rate"))
	}
	if whole != nil {
		if field := l.above(whole); field != "" {
			d.fail(f[field], errors.New("it is above the sandbox's own limit"))
		}
	}
	return l
}

func (d *document) count(v value, most int) int {
	text := d.text(v, "!!int")
	n, err := strconv.Atoi(text)
	if v.node != nil && (err != nil || n < 1 || n > most || text[0] == '0') {
		d.fail(v, fmt.Errorf("%s is not a whole number from 1 to %d", quote(text), most))
	}
	return n
}

func (d *document) action(v value, known ...Action) Action {
	a := Action(d.text(v, "!!str"))
	if v.node != nil && !slices.Contains(known, a) {
		d.fail(v, fmt.Errorf("%s is not one of %s, %s, %s", quote(string(a)), known[0], known[1], known[2]))
	}
	return a
}

// read reads a piece of text that parse understands; a bare number is text
// here, as in "upload: 1000".
func read[T any](d *document, v value, parse func(string) (T, error)) (t T) {
	if v.node == nil {
		return t
	}
	t, err := parse(d.text(v, "!!str", "!!int"))
	d.fail(v, err)
	return t
}

// text returns a scalar of one of the given types.
func (d *document) text(v value, types ...string) string {
	if v.node == nil {
		return ""
	}
	if v.node.Kind != yaml.ScalarNode || !slices.Contains(types, v.node.ShortTag()) {
		want := map[string]string{"!!str": "text", "!!int": "a whole number"}[types[0]]
		d.fail(v, errors.New("want "+want))
		return ""
	}
	return v.node.Value
}

// fields returns the values of a mapping, all of them known.
func (d *document) fields(v value, known ...string) map[string]value {
	if v.node.Kind != yaml.MappingNode {
		d.fail(v, errors.New("want "+strings.Join(known, ", ")))
		return nil
	}
	fields := map[string]value{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		name := v.node.Content[i].Value
		if !slices.Contains(known, name) {
			d.fail(value{v.node.Content[i], v.path}, fault.New(fault.Invalid, "unknown field %s", quote(name)).
				Hint("the fields are %s", strings.Join(known, ", ")))
			continue
		}
		field := value{v.node.Content[i+1], strings.TrimPrefix(v.path+"."+name, ".")}
		if fields[name].node != nil {
			d.fail(field, errors.New("appears twice"))
		}
		fields[name] = field
	}
	return fields
}

// items returns the values of a list, none if the document has no such list.
func (d *document) items(v value, most int) []value {
	if v.node == nil {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		d.fail(v, errors.New("want a list"))
		return nil
	}
	if len(v.node.Content) > most {
		d.fail(v, fmt.Errorf("%d are too many: at most %d", len(v.node.Content), most))
		return nil
	}
	var items []value
	for i, node := range v.node.Content {
		items = append(items, value{node, v.path + "[" + strconv.Itoa(i) + "]"})
	}
	return items
}

func (d *document) fail(v value, err error) {
	if err == nil || d.err != nil {
		return
	}
	path := v.path
	if path == "" {
		path = "document"
	}
	d.err = fault.New(fault.Invalid, "line %d: %s: %w", v.node.Line, path, err)
}
