package client

// SessionRequest exchanges a key for a session of a browser.
type SessionRequest struct {
	Key string `json:"key"`
}

// Session says who a browser is signed in as.
type Session struct {
	// Name is that of the key, Team and Scope are what it may do. The scope is
	// "none" if nobody is signed in.
	Name  string `json:"name"`
	Team  string `json:"team"`
	Scope string `json:"scope"`
	// CSRF goes into the header X-Bulkhead-Csrf of each request that is not a GET.
	CSRF string `json:"csrf"`
}

// Check is one finding about the host.
type Check struct {
	// Name is what was looked at: "accelerator".
	Name string `json:"name"`
	// Status is "ok", "warning" or "failure".
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Mend is a command, or a sentence if no command does it; "" if there is
	// nothing to mend.
	Mend string `json:"mend,omitempty"`
}
