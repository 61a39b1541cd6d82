package files

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"

	"bulkhead/internal/fault"
)

// encoded reads the header Accept-Encoding (RFC 9110, 12.5.3). It returns
// whether an answer should be gzip; plain says that it must not be. The error
// is of kind unsupported: nothing that could be sent is accepted.
func encoded(header string, plain bool) (gzipped bool, err error) {
	weight := map[string]float64{}
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.ToLower(part), ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			if v, err := strconv.ParseFloat(text, 64); err == nil {
				q = v
			}
		}
		weight[strings.TrimSpace(name)] = q
	}
	star, hasStar := weight["*"]
	zip, hasZip := weight["gzip"]
	own, hasOwn := weight["identity"]
	gzipOK := zip > 0 || !hasZip && star > 0
	identityOK := own > 0 || !hasOwn && !(hasStar && star == 0)
	if gzipOK && !plain && (!identityOK || hasZip && zip >= own) { // "*" alone is no wish for gzip
		return true, nil
	}
	if identityOK {
		return false, nil
	}
	return false, fault.New(fault.Unsupported, "no acceptable encoding: gzip and identity are available")
}

// decoded returns the body of an upload without its Content-Encoding. The
// error is of kind invalid.
func decoded(r *http.Request) (io.Reader, error) {
	switch enc := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read gzip body: %w", err)
		}
		return body, nil
	default:
		return nil, fault.New(fault.Invalid, "content encoding '%s' is not supported: send gzip or none", enc)
	}
}
