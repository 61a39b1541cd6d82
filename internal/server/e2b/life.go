package e2b

import (
	"context"
	"net/http"
	"time"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/input"
)

// tries is how often a call is made anew whose sandbox has just come into
// another state.
const tries = 3

// leastRefresh is the shortest time that is added to a life.
const leastRefresh = 15 * time.Second

func (a *API) kill(r *http.Request) (Reply, error) {
	return done(), a.Sandboxes.Remove(r.Context(), r.PathValue("ref"))
}

func (a *API) pause(r *http.Request) (Reply, error) {
	var req client.PauseRequest
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	_, err := a.Power.Pause(r.Context(), r.PathValue("ref"), req)
	return done(), err
}

// resume is of the first generation, before there was connect.
func (a *API) resume(r *http.Request) (Reply, error) {
	var req client.ResumeRequest
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	if req.Timeout != nil {
		if err := checkTimeout(*req.Timeout, 1); err != nil {
			return Reply{}, err
		}
	}
	s, err := a.Power.Resume(r.Context(), r.PathValue("ref"), req)
	return Reply{Status: http.StatusCreated, Body: s}, err
}

// connect has a sandbox run, and not end before a time.
func (a *API) connect(r *http.Request) (Reply, error) {
	timeout := secondTimeout
	return a.connectWith(r, client.ResumeRequest{Timeout: &timeout})
}

// connectFirst is of the first generation, whose clients have to say how long.
func (a *API) connectFirst(r *http.Request) (Reply, error) {
	return a.connectWith(r, client.ResumeRequest{})
}

func (a *API) connectWith(r *http.Request, req client.ResumeRequest) (Reply, error) {
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	if req.Timeout == nil {
		return Reply{}, fault.New(fault.Invalid, "there is no timeout")
	}
	if err := checkTimeout(*req.Timeout, 1); err != nil {
		return Reply{}, err
	}
	for try := 1; ; try++ {
		answer, err := a.tryConnect(r.Context(), r.PathValue("ref"), req)
		if !fault.Is(err, fault.WrongState) || try == tries {
			return answer, err
		}
	}
}

func (a *API) tryConnect(ctx context.Context, ref string, req client.ResumeRequest) (Reply, error) {
	s, err := a.look(ctx, ref)
	if err != nil {
		return Reply{}, err
	}
	status := http.StatusOK
	if s.State == client.StatePaused {
		status = http.StatusCreated
		s, err = a.Power.Resume(ctx, ref, req)
	} else {
		s, err = a.Power.SetEnd(ctx, ref, a.in(*req.Timeout), true)
	}
	return Reply{Status: status, Body: s}, err
}

// in is the time so many seconds from now.
func (a *API) in(seconds int) time.Time { return a.Clock().Add(time.Duration(seconds) * time.Second) }

func (a *API) setTimeout(r *http.Request) (Reply, error) {
	var req struct {
		Timeout *int `json:"timeout"`
	}
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	if req.Timeout == nil {
		return Reply{}, fault.New(fault.Invalid, "there is no timeout")
	}
	if err := checkTimeout(*req.Timeout, 0); err != nil {
		return Reply{}, err
	}
	return done(), a.setEnd(r, a.in(*req.Timeout), false)
}

func (a *API) refresh(r *http.Request) (Reply, error) {
	var req struct {
		Duration int `json:"duration"`
	}
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	const most = 3600
	if req.Duration < 0 || req.Duration > most {
		return Reply{}, fault.New(fault.Invalid, "duration of %d seconds is not from 0 to %d", req.Duration, most)
	}
	at := a.Clock().Add(max(time.Duration(req.Duration)*time.Second, leastRefresh))
	return done(), a.setEnd(r, at, true)
}

// setEnd changes the end of a sandbox that runs; time does not run for others,
// so for this there are none.
func (a *API) setEnd(r *http.Request, at time.Time, onlyLater bool) error {
	ref := r.PathValue("ref")
	s, err := a.look(r.Context(), ref)
	if err == nil && s.State == client.StatePaused {
		err = notFound(ref)
	}
	if err == nil {
		_, err = a.Power.SetEnd(r.Context(), ref, at, onlyLater)
	}
	return err
}

func (a *API) fork(r *http.Request) (Reply, error) {
	req := client.ForkRequest{Count: 1}
	if err := input.JSON(r, &req); err != nil {
		return Reply{}, err
	}
	ref := r.PathValue("ref")
	if req.Timeout == nil && !req.Forever {
		timeout := forkTimeout
		req.Timeout = &timeout
	}
	if req.Timeout != nil {
		if err := checkTimeout(*req.Timeout, 1); err != nil {
			return Reply{}, err
		}
	}
	if !req.All { // our own client can fork what is paused
		s, err := a.look(r.Context(), ref)
		if err != nil {
			return Reply{}, err
		}
		if s.State == client.StatePaused {
			return Reply{}, fault.New(fault.WrongState, "sandbox %s is paused", ref)
		}
	}
	made, errs, err := a.Power.Fork(r.Context(), ref, req)
	if err != nil {
		return Reply{}, err
	}
	all := make([]client.ForkResult, len(made))
	for i := range made {
		if errs[i] != nil {
			all[i].Error = a.Describe(r.Context(), errs[i])
			continue
		}
		all[i].Sandbox = &made[i]
	}
	return Reply{Status: http.StatusCreated, Body: all}, nil
}
