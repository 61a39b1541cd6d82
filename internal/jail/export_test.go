package jail

import "context"

// Lacking makes a jail of a host that lacks features.
func Lacking(cfg Config, features ...string) (*Jail, error) {
	j, err := New(cfg)
	if err != nil {
		return nil, err
	}
	j.missing = func() (all []Missing) {
		for _, f := range features {
			all = append(all, Missing{f, "get " + f})
		}
		return all
	}
	return j, nil
}

// LeaveHalfMade leaves what a daemon leaves that dies while it starts c.
func LeaveHalfMade(j *Jail, c Cage) error {
	h, err := j.lease(c)
	if err != nil {
		return err
	}
	if _, err := j.groups.Create(groupName(h.UID), c.Limits.Group); err != nil {
		return err
	}
	return own(c.Files[0].Host, h.UID)
}

// ReleaseAgain does what an end and an undo of the same start do one after the
// other.
func ReleaseAgain(ctx context.Context, p *Process) error { return p.holding.release(ctx) }
