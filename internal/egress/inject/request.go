package inject

import (
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Prefix begins every placeholder; 32 characters of a to z and 2 to 7 follow.
const Prefix = "bulkhead_"

var placeholders = regexp.MustCompile(Prefix + `[a-z2-7]{32}`)

// refusal is why a request is not carried, and the kind of its notice.
type refusal struct {
	status       int
	notice, text string
}

func (r refusal) Error() string { return r.text }

// carry carries one request and its answer.
func (x *Exchange) carry(w http.ResponseWriter, r *http.Request, through transports) {
	http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
	secrets, err := x.Secrets()
	if err != nil {
		x.refuse(w, refusal{http.StatusBadGateway, "missing", "The secret for " + x.Host + " cannot be used: " + err.Error()})
		return
	}
	sent, err := x.fill(r, secrets)
	if err != nil {
		x.refuse(w, err)
		return
	}
	mask := newMask(sent, func(name string) { x.Notice(Notice{"echoed", name}) })
	p := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { x.rewrite(p, secrets) },
		Transport: through.of(r),
		// Whatever comes is passed on at once.
		FlushInterval:  -1,
		ModifyResponse: mask.answer,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			x.refuse(w, refusal{http.StatusBadGateway, "", x.Host + " is not reached: " + mask.text(err.Error())})
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	p.ServeHTTP(maskedWriter{w, mask}, r)
}

// refuse answers with a refusal.
func (x *Exchange) refuse(w http.ResponseWriter, err error) {
	why := refusal{http.StatusForbidden, "", err.Error()}
	errors.As(err, &why)
	if why.notice != "" {
		x.Notice(Notice{Kind: why.notice})
	}
	http.Error(w, why.text, why.status)
}

// rewrite makes the request one to the host, without what belongs to the
// guest's connection.
func (x *Exchange) rewrite(p *httputil.ProxyRequest, secrets []Secret) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "https", x.Host, x.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // also what Go would not parse
	for _, s := range secrets {
		if s.Header != "" {
			p.Out.Header.Set(s.Header, strings.Replace(s.Format, "{}", s.Value, 1))
			x.Notice(Notice{"used", s.Name})
		}
	}
	p.Out.Header.Del("Range")
	p.Out.Header.Del("If-Range")
	p.Out.Header.Set("Accept-Encoding", "identity")
	if p.Out.Header.Get("Sec-Websocket-Key") != "" {
		p.Out.Header.Del("Sec-Websocket-Extensions") // compression is one
	}
}

// needle is something that must not come back, and the secret that it is of.
type needle struct{ text, secret string }

// fill puts secrets in the place of their placeholders, and returns all that
// must not come back.
func (x *Exchange) fill(r *http.Request, secrets []Secret) (sent []needle, err error) {
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	if strings.TrimSuffix(host, ".") != x.Host {
		return nil, refusal{http.StatusMisdirectedRequest, "refused", fmt.Sprintf("This connection is to %s, the request is for %.100q.", x.Host, r.Host)}
	}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return nil, refusal{http.StatusMethodNotAllowed, "refused", r.Method + " is not passed on."}
	}
	if placeholders.MatchString(r.RequestURI) {
		return nil, refusal{http.StatusForbidden, "refused", "The placeholder of a secret counts in headers, not in an address."}
	}
	f := filling{x: x, secrets: secrets}
	for name, values := range r.Header {
		for i := range values {
			if values[i], err = f.value(name, values[i]); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range secrets {
		// Whatever was sent before may come back later.
		for _, text := range []string{s.Value, url.QueryEscape(s.Value), url.PathEscape(s.Value), base64.StdEncoding.EncodeToString([]byte(s.Value))} {
			f.sent = append(f.sent, needle{text, s.Name})
		}
	}
	return f.sent, nil
}

// filling is a request that secrets are put into.
type filling struct {
	x       *Exchange
	secrets []Secret
	sent    []needle
}

// value puts secrets into the value of a header.
func (f *filling) value(name, value string) (string, error) {
	filled, err := f.placeholders(value)
	if err == nil && name == "Authorization" {
		return f.basic(filled)
	}
	return filled, err
}

// placeholders puts secrets in the place of what stands for them.
func (f *filling) placeholders(value string) (string, error) {
	var failed error
	filled := placeholders.ReplaceAllStringFunc(value, func(found string) string {
		i := slices.IndexFunc(f.secrets, func(s Secret) bool { return s.Placeholder == found })
		if i < 0 {
			failed = refusal{http.StatusForbidden, "stale", "A placeholder in this request is not for " + f.x.Host +
				", or is from before a rollback: take the one that the environment has now."}
			return found
		}
		f.x.Notice(Notice{"used", f.secrets[i].Name})
		return f.secrets[i].Value
	})
	return filled, failed
}

// basic puts secrets into the credentials of Basic authentication (RFC 7617).
func (f *filling) basic(value string) (string, error) {
	scheme, coded, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return value, nil
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(coded))
	if err != nil {
		return value, nil // whatever it is, it is the guest's own
	}
	filled, err := f.placeholders(string(plain))
	if err != nil || filled == string(plain) {
		return value, err
	}
	coded = base64.StdEncoding.EncodeToString([]byte(filled))
	f.sent = append(f.sent, needle{coded, "credentials"})
	return scheme + " " + coded, nil
}

// answer makes an answer one that can be searched, and masks it.
func (m *mask) answer(r *http.Response) error {
	m.headers(r.Header)
	if r.Body == nil || r.Body == http.NoBody || r.Request.Method == http.MethodHead {
		return nil
	}
	if stream, ok := r.Body.(io.ReadWriteCloser); ok && r.StatusCode == http.StatusSwitchingProtocols {
		r.Body = maskedStream{stream, m.reader(stream)}
		return nil
	}
	switch coding := strings.ToLower(r.Header.Get("Content-Encoding")); coding {
	case "", "identity":
	case "gzip": // though nobody has asked for it
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return fmt.Errorf("its answer is no gzip: %w", err)
		}
		r.Body = body{unpacked, r.Body}
		r.Header.Del("Content-Encoding")
		r.Header.Del("Content-Length")
		r.ContentLength = -1
	default:
		return fmt.Errorf("its answer is coded as %.40q, which cannot be searched for secrets", coding)
	}
	r.Body = body{&trailing{m.reader(r.Body), m, r}, r.Body}
	return nil
}

// body reads from one and closes another.
type body struct {
	io.Reader
	io.Closer
}

// maskedStream is what a connection becomes that changes its protocol.
type maskedStream struct {
	io.ReadWriteCloser
	masked io.Reader
}

func (s maskedStream) Read(p []byte) (int, error) { return s.masked.Read(p) }

// trailing masks trailers, which are known once the body has ended.
type trailing struct {
	io.Reader
	mask *mask
	of   *http.Response
}

func (t *trailing) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if err == io.EOF {
		t.mask.headers(t.of.Trailer)
	}
	return n, err
}

// maskedWriter masks headers that are sent before the answer's own: those of
// 103 Early Hints.
type maskedWriter struct {
	http.ResponseWriter
	mask *mask
}

func (w maskedWriter) WriteHeader(status int) {
	w.mask.headers(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w maskedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
