package sandbox_test

import (
	"context"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
)

func wantState(t *testing.T, m *sandbox.Manager, want lifecycle.State) {
	t.Helper()
	if s, err := m.Get("web"); err != nil || s.State != want || s.PID == 0 {
		t.Errorf("it is %+v, %v, want it %s", s, err, want)
	}
}

// A machine that an earlier daemon has suspended is so still, and goes on by
// what is asked of it; what only looks at it leaves it alone.
func TestSuspendedIsWoken(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *sandbox.Manager) error{
		"a request": request,
		"a wake":    func(ctx context.Context, m *sandbox.Manager) error { return m.Wake(ctx, "web") },
		"a resume": func(ctx context.Context, m *sandbox.Manager) error {
			_, err := m.Resume(ctx, "web", sandbox.ResumeSpec{})
			return err
		},
		"another schedule": func(ctx context.Context, m *sandbox.Manager) error {
			_, err := m.SetSchedule(ctx, "web", m.List()[0].Schedule)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			withSandbox(t, lifecycle.Suspended, "never", func(t *testing.T, m *sandbox.Manager, _ *silent) {
				wantState(t, m, lifecycle.Suspended)
				if _, err := m.Probe(t.Context(), "web"); !fault.Is(err, fault.WrongState) {
					t.Errorf("looked at: %v", err)
				}
				wantState(t, m, lifecycle.Suspended)
				if err := ask(t.Context(), m); err != nil {
					t.Error(err)
				}
				wantState(t, m, lifecycle.Running)
				if err := m.Wake(t.Context(), "web"); err != nil {
					t.Errorf("woken again: %v", err)
				}
				if err := m.Remove(t.Context(), "web"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// One whose agent does not answer says so, and can be removed.
func TestSuspendedWithASilentAgent(t *testing.T) {
	withSandbox(t, lifecycle.Suspended, "connect", func(t *testing.T, m *sandbox.Manager, _ *silent) {
		if err := request(t.Context(), m); !fault.Is(err, fault.Unavailable) {
			t.Errorf("error = %v", err)
		}
		wantState(t, m, lifecycle.Running)
		if err := m.Remove(t.Context(), "web"); err != nil {
			t.Error(err)
		}
	})
}

// One that is removed while it stands still is not woken for that.
func TestSuspendedIsRemoved(t *testing.T) {
	withSandbox(t, lifecycle.Suspended, "connect", func(t *testing.T, m *sandbox.Manager, _ *silent) {
		if err := m.Remove(t.Context(), "web"); err != nil {
			t.Error(err)
		}
	})
}
