package wire

import (
	"bulkhead/client"
	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/template"
)

// maxCredential bounds a name, a password or a service account.
const maxCredential = 16 << 10

// Remote is the container image of a request, the zero value for none. Who asks
// in a way that is not supported is told another.
func Remote(reference string, r *client.Registry) (template.Remote, error) {
	from := template.Remote{Reference: reference}
	if r == nil {
		return from, nil
	}
	if reference == "" {
		return from, fault.New(fault.Invalid, "fromImageRegistry is for fromImage")
	}
	switch r.Type {
	case "registry":
		from.Username, from.Password = r.Username, r.Password
	case "gcp":
		// The user name that Google's registries know such a password by.
		from.Username, from.Password = "_json_key", r.ServiceAccountJSON
	case "aws":
		return from, fault.New(fault.Unsupported, "credentials of AWS are not exchanged for those of its registry").
			Hint(`type "registry", user AWS, and the password of: aws ecr get-login-password`)
	default:
		return from, fault.New(fault.Invalid, "fromImageRegistry: type %.40q is none", r.Type)
	}
	if len(from.Username) > maxCredential || len(from.Password) > maxCredential {
		return from, fault.New(fault.Invalid, "fromImageRegistry: a name or password has more than %d bytes", maxCredential)
	}
	if from.Username == "" || from.Password == "" {
		return from, fault.New(fault.Invalid, "fromImageRegistry: a name and a password are needed")
	}
	return from, nil
}
