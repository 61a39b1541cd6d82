package learn_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"bulkhead/internal/egress/learn"
	"bulkhead/internal/egress/policy"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, doc string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const before = `version: 1
default: public
limits: {upload: 9MB}
rules:
  - {name: bad.example, action: deny}
  - {name: "*.used.example", ports: [443], action: allow, limits: {upload: 1MB}}
  - {name: unused.example, action: allow}
  - {cidr: 10.0.0.0/8, ports: [5432], action: allow}
  - {cidr: 192.168.0.0/16, ports: [80], action: allow}
`

func seen() []learn.Seen {
	return []learn.Seen{
		{Name: "b.example", Port: 443, Allowed: true},
		{Name: "b.example", Port: 80, Allowed: true},
		{Name: "a.used.example", Port: 443, Allowed: true},
		{Name: "a.used.example", Port: 80, Allowed: true},
		{Name: "db.example", Addr: netip.MustParseAddr("10.1.2.3"), Port: 5432, Allowed: true},
		{Addr: netip.MustParseAddr("93.184.215.14"), Port: 22, Allowed: true},
		{Name: "bad.example", Port: 443},
		{Name: "x\n.example"},
	}
}

func TestProposeIsTheSmallest(t *testing.T) {
	got, err := learn.Propose(parse(t, before), seen())
	if err != nil {
		t.Fatal(err)
	}
	want := parse(t, `version: 1
default: deny
limits: {upload: 9MB}
rules:
  - {cidr: 93.184.215.14/32, ports: [22], action: allow}
  - {name: a.used.example, ports: [80], action: allow}
  - {name: b.example, ports: [80, 443], action: allow}
  - {name: db.example, ports: [5432], action: allow}
  - {name: bad.example, action: deny}
  - {name: "*.used.example", ports: [443], action: allow, limits: {upload: 1MB}}
  - {cidr: 10.0.0.0/8, ports: [5432], action: allow}
`)
	if diff := cmp.Diff(string(want.Marshal()), string(got.Marshal())); diff != "" {
		t.Error(diff)
	}
	parse(t, string(got.Marshal()))
	if changes := learn.Replay(got, seen()); len(changes) > 0 {
		t.Errorf("the proposal decides otherwise: %+v", changes)
	}
}

func TestReplay(t *testing.T) {
	p := parse(t, "version: 1\nrules:\n  - {name: '*.example', ports: [443, 5432], action: allow}\n  - {name: bad.example, action: ask}\n")
	var got []string
	for _, c := range learn.Replay(p, seen()) {
		got = append(got, fmt.Sprintf("%s%v:%d %v->%s", c.Name, c.Addr, c.Port, c.Allowed, c.Now))
	}
	want := []string{
		"b.exampleinvalid IP:80 true->deny", "a.used.exampleinvalid IP:80 true->deny",
		"db.example10.1.2.3:5432 true->deny", // a private address, which no rule opens
		"93.184.215.14:22 true->deny", "bad.exampleinvalid IP:443 false->allow",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A guest cannot make a record grow without end, and one is as it was when the
// daemon comes back.
func TestRecorder(t *testing.T) {
	var r learn.Recorder
	r.Note(learn.Seen{Name: "early.example", Port: 1})
	r.Start(time.Unix(1, 0).UTC())
	for i := range 2000 {
		r.Note(learn.Seen{Name: fmt.Sprintf("%d.example", i), Port: 443})
		r.Note(learn.Seen{Name: "same.example", Port: 443, Allowed: true})
	}
	r.Stop()
	r.Note(learn.Seen{Name: "late.example", Port: 1})
	got := r.Read()
	last := got.Seen[len(got.Seen)-1]
	if got.On || len(got.Seen) != 500 || got.Unrecorded != 1501 || last.Name != "same.example" || last.Count != 2000 {
		t.Errorf("%d seen, %d not, the last %+v", len(got.Seen), got.Unrecorded, last)
	}
	kept, err := r.Keep()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Keep(); again != nil || err != nil {
		t.Errorf("kept again: %d bytes, %v", len(again), err)
	}
	var later learn.Recorder
	if err := later.Restore(kept); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, later.Read(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
