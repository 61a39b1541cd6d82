package network_test

import (
	"context"
	"testing"
	"time"
)

// A packet to a guest that reads nothing is told of, and waits for it.
func TestKnock(t *testing.T) {
	l, tap, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	knocked, err := l.Knock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	forgotten, forget := context.WithCancel(t.Context())
	ignored, err := l.Knock(forgotten)
	if err != nil {
		t.Fatal(err)
	}
	forget()
	select {
	case <-knocked:
		t.Fatal("there was no packet")
	default:
	}
	dial, hangUp := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := l.Dial(dial, 8080)
		ended <- err
	}()
	select {
	case <-knocked:
	case <-time.After(patience):
		t.Fatal("the packet is not told of")
	}
	tap.SetReadDeadline(time.Now().Add(patience))
	if n, err := tap.Read(make([]byte, 2048)); n == 0 || err != nil {
		t.Errorf("the packet did not wait: %d bytes, %v", n, err)
	}
	hangUp()
	if err := <-ended; err == nil {
		t.Error("somebody has answered")
	}
	select {
	case <-ignored:
		t.Error("told somebody who did not want to know any more")
	default:
	}
}
