package machine

import (
	"context"
	"maps"

	"bulkhead/proto/machine"
)

// trust takes what the host gives the machine of secrets. A damaged guest takes
// what it can.
func (s *Service) trust(ctx context.Context, t *machine.Trust) {
	changed, err := s.store.Install(t.GetRoot(), t.GetLink())
	if err != nil {
		s.log.WarnContext(ctx, "authority is not installed everywhere", "err", err)
	}
	s.mu.Lock()
	same := maps.Equal(s.placeholders, t.GetEnv())
	s.placeholders, s.refresh = t.GetEnv(), s.refresh || changed
	s.mu.Unlock()
	if same {
		return
	}
	if err := keep(placeholderFile, t.GetEnv()); err != nil {
		s.log.WarnContext(ctx, "placeholders are not kept", "err", err)
	}
}

// refreshOnce has programs that keep authorities of their own learn of a
// change, in a guest that is not frozen.
func (s *Service) refreshOnce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refresh || s.freezer.Frozen() {
		return
	}
	s.refresh = false
	go func() {
		group, done, err := s.freezer.Work()
		if err == nil {
			err = s.store.Refresh(context.Background(), group, done)
		}
		if err != nil {
			s.log.Warn("stores of other programs are not refreshed", "err", err)
		}
	}()
}
