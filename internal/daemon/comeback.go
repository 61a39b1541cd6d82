package daemon

import (
	"context"

	"bulkhead/internal/sandbox"
	"bulkhead/internal/sandbox/lifecycle"
)

// bringBack brings back what has ended with the host, one after the other: a
// boot takes all of a processor. Machines that were paused for other reasons are
// not among them.
func (t tended) bringBack(ctx context.Context) {
	for _, s := range t.List() {
		if ctx.Err() != nil {
			return
		}
		var how string
		switch {
		case s.State == lifecycle.Paused && s.Returns:
			how = t.wakeAgain(ctx, s)
		case s.EndedUnseen():
			how = t.bootAgain(ctx, s)
		default:
			continue
		}
		t.events.Append(ctx, "sandbox.brought_back", string(s.ID), map[string]string{"name": s.Name, "how": how})
	}
}

func (t tended) wakeAgain(ctx context.Context, s sandbox.Sandbox) (how string) {
	if err := t.Wake(ctx, string(s.ID)); err != nil {
		return staysDown(err)
	}
	return "resumed where it was"
}

// bootAgain boots a machine from its disk, and if that is beyond it goes back to
// the last snapshot.
func (t tended) bootAgain(ctx context.Context, s sandbox.Sandbox) (how string) {
	_, err := t.Start(ctx, string(s.ID))
	if err == nil {
		return "booted from its disk"
	}
	if s.Head == "" || ctx.Err() != nil {
		return staysDown(err)
	}
	t.log.WarnContext(ctx, "machine does not boot after the host's restart", "sandbox", string(s.ID), "err", err)
	if _, err := t.Rollback(ctx, string(s.ID), string(s.Head), true); err != nil {
		return staysDown(err)
	}
	return "rolled back to " + string(s.Head)
}

func staysDown(err error) string { return "stays down: " + err.Error() }
