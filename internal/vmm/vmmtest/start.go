package vmmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/vmm"
)

func starts() []check {
	return []check{
		{"a state that does not fit is refused", refusesStates},
		{"a machine that does not fit its state is refused", refusesSpecs},
		{"a state that is not there is not found", missesState},
		{"a machine out of range is refused", refusesRange},
		{"a start that is given up leaves nothing", startsGivenUp},
		{"where nothing runs nothing is found or reaped", findsNothing},
	}
}

func refusesStates(t *testing.T, l *lab) {
	good, err := os.ReadFile(l.saved.State)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		state []byte
	}{
		{"nothing", nil},
		{"junk", []byte("junk")},
		{"the first half", good[:len(good)/2]},
		{"all but the last quarter", good[:len(good)*3/4]},
		{"another's beginning", append([]byte("X"), good[1:]...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := l.saved.copy(t, l)
			at.State = filepath.Join(filepath.Dir(at.Spec.RunDir), "bad")
			if err := os.WriteFile(at.State, tt.state, 0o600); err != nil {
				t.Fatal(err)
			}
			wantIncompatible(t, l, at)
		})
	}
}

func refusesSpecs(t *testing.T, l *lab) {
	for name, mib := range map[string]int{"more memory": memoryMiB * 2, "less memory": memoryMiB / 2} {
		t.Run(name, func(t *testing.T) {
			at := l.saved.copy(t, l)
			at.Spec.MemoryMiB = mib
			sparse(t, at.Spec.Memory, int64(mib)<<20)
			wantIncompatible(t, l, at)
		})
	}
}

func wantIncompatible(t *testing.T, l *lab, at moment) {
	t.Helper()
	m, err := l.driver.Restore(t.Context(), at.Spec, at.State)
	if m != nil {
		l.own(t, m, at.Spec)
	}
	if !errors.Is(err, vmm.ErrIncompatible) {
		t.Errorf("got %v", err)
	}
	wantGone(t, l, at.Spec)
}

func missesState(t *testing.T, l *lab) {
	at := l.saved.copy(t, l)
	m, err := l.driver.Restore(t.Context(), at.Spec, at.State+".gone")
	if m != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, %v", m, err)
	}
	wantGone(t, l, at.Spec)
}

func refusesRange(t *testing.T, l *lab) {
	at := l.saved.copy(t, l)
	at.Spec.CPUs = 65 // vmm.Spec.Check has a test of its own for the others
	for _, o := range []order{{boot, at}, {restore, at}} {
		m, err := o.start(t.Context(), l.driver)
		if m != nil || err == nil || err.Error() != at.Spec.Check().Error() {
			t.Errorf("%s: got %v, %v", o.How, m, err)
		}
		wantGone(t, l, at.Spec)
	}
}

func startsGivenUp(t *testing.T, l *lab) {
	for _, how := range []string{boot, restore} {
		t.Run(how, func(t *testing.T) {
			if !l.givenUp(t, how, 0) {
				t.Error("it started")
			}
			for looks := 1; l.givenUp(t, how, looks); looks++ { // later and later
			}
		})
	}
}

// givenUp gives up the start of a machine once its VMM has been seen so many
// times; 0 is before it begins. It returns false if the machine had started by
// then.
func (l *lab) givenUp(t *testing.T, how string, looks int) bool {
	t.Helper()
	o := order{how, l.saved.copy(t, l)}
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	if looks == 0 {
		giveUp()
	}
	var m vmm.Machine
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m, err = o.start(ctx, l.driver)
	}()
	eventually(t, "it starts", func() bool {
		if len(holders(t, o.At.Spec.Disk)) > 0 {
			looks--
		}
		return looks <= 0 || isClosed(ended)
	})
	giveUp()
	<-ended
	if err == nil {
		do(t, m.Kill)
	} else if !errors.Is(err, context.Canceled) || errors.Is(err, vmm.ErrIncompatible) {
		t.Fatalf("got %v", err)
	}
	wantGone(t, l, o.At.Spec)
	return err != nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func findsNothing(t *testing.T, l *lab) {
	spec := l.newSpec(t)
	wantGone(t, l, spec)
	do(t, l.reap(spec.RunDir))
}
