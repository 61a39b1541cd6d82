package e2b

import "bulkhead/internal/fault"

// Absent maps the routes of what E2B has and we do not to why.
func Absent() map[string]error {
	no := func(what, instead string) error {
		return fault.New(fault.Unsupported, "%s", what).Hint("%s", instead)
	}
	volumes := no("this host has no volumes", "share files through a repository, or fork a sandbox that has them")
	secrets := no("secrets of this kind are not offered", "PUT /secrets/{name}, and let an egress rule use it: bulkhead secret")
	first := no("builds of the first generation, from a Dockerfile that the client built, are not offered", "POST /v2/templates/{template}/builds/{build} with steps")
	return map[string]error{
		"GET /volumes":                              volumes,
		"POST /volumes":                             volumes,
		"GET /volumes/{volume}":                     volumes,
		"DELETE /volumes/{volume}":                  volumes,
		"POST /secrets":                             secrets,
		"GET /secrets/{name}":                       secrets,
		"POST /secrets/{name}":                      secrets,
		"POST /templates/{template}/builds/{build}": first,
	}
}
