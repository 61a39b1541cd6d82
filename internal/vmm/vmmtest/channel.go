package vmmtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"
)

func channels() []check {
	return []check{
		{"the guest channel is one at a time", oneChannel},
		{"what the guest says to nobody is held back", guestWaits},
		{"a stream out stays in order across a snapshot", streamOut},
		{"a stream in stays in order across stops and a snapshot", streamIn},
	}
}

func oneChannel(t *testing.T, l *lab) {
	m := l.restore(t)
	g := m.talk(t)
	// A driver may refuse a second connection, or have it wait for the end of
	// the first: until then the guest must not hear of it.
	var second *guest
	if conn, err := m.Guest(t.Context()); err == nil {
		second = converse(t, conn)
		fmt.Fprintln(second, "count")
	}
	for i := range 3 {
		if got, want := g.number(t, "count"), l.count+1+i; got != want {
			t.Errorf("counts %d, want %d", got, want)
		}
	}
	if second != nil {
		g.close()
		g = second
		if got, want := g.line(t), fmt.Sprint(l.count+4); got != want {
			t.Errorf("the second connection counts %s, want %s", got, want)
		}
	}
	for i := range 5 { // gone, and there again at once
		g.close()
		g = m.talk(t)
		if got, want := g.ask(t, fmt.Sprint("echo ", i)), fmt.Sprint(i); got != want {
			t.Fatalf("connection %d says %q", i, got)
		}
	}
}

func guestWaits(t *testing.T, l *lab) {
	const n = 5000
	m := l.restore(t)
	g := m.talk(t)
	if got := g.ask(t, fmt.Sprint("absent ", n)); got != "going" {
		t.Fatalf("says %q", got)
	}
	g.close()
	eventually(t, "the guest sees that", func() bool { return m.kept(t, "nobody is there") })
	wantLines(t, m.talk(t).untilOK(t), n)
}

func streamOut(t *testing.T, l *lab) {
	const n = 30000 // 480 KB: more than a socket holds, so the guest has to wait
	m := l.restore(t)
	g := m.talk(t)
	if _, err := fmt.Fprintln(g, "stream", n); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 10007) // the middle of a line
	if _, err := io.ReadFull(g.in, head); err != nil {
		t.Fatal(err)
	}
	m.save(t)
	wantLines(t, string(head)+g.untilOK(t), n)
}

// wantLines checks that got is what the guest streams.
func wantLines(t *testing.T, got string, n int) {
	t.Helper()
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "line %010d\n", i)
	}
	want.WriteString("ok\n")
	if got != want.String() {
		t.Errorf("the guest's %d bytes are others, or in another order: %d bytes", want.Len(), len(got))
	}
}

func streamIn(t *testing.T, l *lab) {
	m := l.restore(t)
	g := m.talk(t)
	data := make([]byte, 1<<20)
	rand.Read(data)
	sent := make(chan error, 1)
	go func() {
		fmt.Fprintln(g, "sum", len(data))
		_, err := io.Copy(g, bytes.NewReader(data))
		sent <- err
	}()
	for range 3 {
		do(t, m.Stop, m.Continue)
	}
	m.save(t)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got, want := g.line(t), fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		t.Errorf("the guest got something else: %s, want %s", got, want)
	}
}
