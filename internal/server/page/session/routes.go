package session

import (
	"encoding/json"
	"net/http"

	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/server/auth"
	"bulkhead/internal/server/input"
	"bulkhead/internal/server/reply"
)

// maxBody bounds what is sent to sign in: a key has 44 characters.
const maxBody = 4 << 10

// Begin exchanges a key for a session.
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request) error {
	var req client.SessionRequest
	b, err := input.Body(w, r, input.Bounds{Most: maxBody, Within: input.Patience})
	if err != nil {
		return err
	}
	if json.Unmarshal(b, &req) != nil {
		return fault.New(fault.Invalid, "this is no request for a session")
	}
	ctx, done, err := s.Keys.Admit(r.Context(), req.Key)
	if err != nil {
		return err
	}
	defer done()
	cookie, made := s.begin(req.Key)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: cookie, Path: "/", Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	tell(w, auth.From(ctx), made)
	return nil
}

// Who says who is signed in: nobody is an answer, and no error.
func (s *Sessions) Who(w http.ResponseWriter, r *http.Request) error {
	b, ok := r.Context().Value(contextKey{}).(bound)
	if !ok || !auth.From(r.Context()).Known() {
		b.session = &session{}
	}
	tell(w, auth.From(r.Context()), b.session)
	return nil
}

func tell(w http.ResponseWriter, p auth.Principal, s *session) {
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, http.StatusOK, client.Session{Name: p.Key, Team: p.Team, Scope: p.Scope.String(), CSRF: s.token})
}

// End ends the session that the request comes with.
func (s *Sessions) End(w http.ResponseWriter, r *http.Request) error {
	b, ok := r.Context().Value(contextKey{}).(bound)
	if !ok || !auth.From(r.Context()).Known() {
		return auth.ErrUnknown
	}
	s.end(b.cookie)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Path: "/", MaxAge: -1, Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	w.WriteHeader(http.StatusNoContent)
	return nil
}
