package guest

import (
	"errors"
	"io"
	"net/http"
)

var errTooLong = errors.New("the guest's answer is too long")

// bounded refuses to read more than max bytes of a body. The limit of the RPC
// library alone does not do: it reads on to the end of what it has refused.
type bounded struct {
	next http.RoundTripper
	max  int64
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, b.max}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	// One byte more than may come tells a body that ends from one that goes on.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if int64(n) > b.left {
		return 0, errTooLong
	}
	b.left -= int64(n)
	return n, err
}
