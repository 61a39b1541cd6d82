package e2b

import "bulkhead/internal/fault"

// Absent maps the routes of what E2B has and we do not to why.
func Absent() map[string]error {
	no := func(what, instead string) error {
		return fault.New(fault.Unsupported, "%s", what).Hint("%s", instead)
	}
	volumes := no("this host has no volumes", "share files through a repository, or fork a sandbox that has them")
	secrets := no("secrets of this kind are not offered", "PUT /secrets/{name}, and let an egress rule use it: bulkhead secret")
	builds := no("templates are not built through this API", "take a snapshot of a prepared sandbox and create from it, or: bulkhead template build")
	return map[string]error{
		"GET /volumes":                                    volumes,
		"POST /volumes":                                   volumes,
		"GET /volumes/{volume}":                           volumes,
		"DELETE /volumes/{volume}":                        volumes,
		"POST /secrets":                                   secrets,
		"GET /secrets/{name}":                             secrets,
		"POST /secrets/{name}":                            secrets,
		"POST /v2/templates":                              builds,
		"POST /v3/templates":                              builds,
		"PATCH /templates/{template}":                     builds,
		"PATCH /v2/templates/{template}":                  builds,
		"POST /templates/{template}/builds/{build}":       builds,
		"POST /v2/templates/{template}/builds/{build}":    builds,
		"GET /templates/{template}/builds/{build}/status": builds,
		"GET /templates/{template}/builds/{build}/logs":   builds,
		"GET /templates/{template}/files/{hash}":          builds,
	}
}
