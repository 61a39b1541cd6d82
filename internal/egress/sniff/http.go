package sniff

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Head is what the head of an HTTP/1 request says.
type Head struct {
	// Host is the name that the request is for, as it is compared, without a
	// port.
	Host string
	// Size is how many bytes the head has, the empty line included.
	Size int
	// Body is how many bytes follow, -1 if they come in chunks.
	Body int64
	// Upgrade is the protocols that may follow, as the request lists them, in
	// lower case; "" for none.
	Upgrade string
}

var (
	// requestLine is the form of RFC 9112, section 3, with one space each.
	requestLine = regexp.MustCompile(`^([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.[01]$`)
	// field is that of section 5, without folding, and with no space before
	// the colon.
	field = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*$")
	// hostForm is a name with an optional port.
	hostForm = regexp.MustCompile(`^([A-Za-z0-9_-][A-Za-z0-9_.-]*)(?::[0-9]{0,5})?$`)
)

// RequestHead reads the head of a request. It refuses whatever another reader
// could understand in another way: two hosts, two lengths, lines that end in
// other ways, a target that is for another host.
func RequestHead(b []byte) (h Head, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= MaxHead {
			return h, fmt.Errorf("request head has more than %d bytes", MaxHead)
		}
		return h, ErrMore
	}
	h.Size = end + 4
	lines := strings.Split(string(b[:end]), "\r\n")
	request := requestLine.FindStringSubmatch(lines[0])
	if request == nil {
		return h, fmt.Errorf("request line has another form")
	}
	fields, err := readFields(lines[1:])
	if err != nil {
		return h, err
	}
	if h.Host, err = host(request[1], request[2], fields["host"]); err != nil {
		return h, err
	}
	if h.Body, err = bodyLength(fields["content-length"], fields["transfer-encoding"]); err != nil {
		return h, err
	}
	if offers, ok := fields["upgrade"]; ok {
		h.Upgrade = cmp.Or(strings.ToLower(strings.Join(offers, ", ")), "nothing") // an empty field is still one
	}
	return h, nil
}

// readFields returns the values of fields by their names in lower case.
func readFields(lines []string) (map[string][]string, error) {
	fields := map[string][]string{}
	for _, line := range lines {
		f := field.FindStringSubmatch(line)
		if f == nil {
			return nil, fmt.Errorf("a line of the head has another form")
		}
		name := strings.ToLower(f[1])
		fields[name] = append(fields[name], f[2])
	}
	return fields, nil
}

// WithoutUpgrade returns the head of a request, which RequestHead has read,
// without what it says of another protocol (RFC 9110, section 7.8).
func WithoutUpgrade(head []byte) []byte {
	var kept []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "upgrade", "http2-settings":
			continue
		case "connection":
			options := slices.DeleteFunc(strings.Split(value, ","), func(option string) bool {
				option = strings.ToLower(strings.TrimSpace(option))
				return option == "upgrade" || option == "http2-settings"
			})
			if len(options) == 0 {
				continue
			}
			line = name + ":" + strings.Join(options, ",")
		}
		kept = append(kept, line)
	}
	return []byte(strings.Join(kept, "\r\n") + "\r\n\r\n")
}

// statusLine is the form of RFC 9112, section 4.
var statusLine = regexp.MustCompile(`^HTTP/1\.[01] ([1-9][0-9]{2})( [^\x00-\x08\x0a-\x1f\x7f]*)?$`)

// AnswerHead reads the head of an answer: its status, the protocol that it
// changes to in lower case, and how many bytes it has.
func AnswerHead(b []byte) (status int, upgrade string, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= MaxHead {
			return 0, "", 0, fmt.Errorf("answer head has more than %d bytes", MaxHead)
		}
		return 0, "", 0, ErrMore
	}
	lines := strings.Split(string(b[:end]), "\r\n")
	line := statusLine.FindStringSubmatch(lines[0])
	if line == nil {
		return 0, "", 0, fmt.Errorf("status line has another form")
	}
	fields, err := readFields(lines[1:])
	if err != nil {
		return 0, "", 0, err
	}
	status, err = strconv.Atoi(line[1])
	return status, strings.ToLower(strings.Join(fields["upgrade"], ", ")), end + 4, err
}

// host returns whom a request is for, from its target and its Host fields,
// which must not differ.
func host(method, target string, hosts []string) (string, error) {
	if len(hosts) != 1 {
		return "", fmt.Errorf("request has %d hosts", len(hosts))
	}
	m := hostForm.FindStringSubmatch(hosts[0])
	if m == nil {
		return "", fmt.Errorf("host of the request has another form")
	}
	name := Name(m[1])
	switch {
	case method == "CONNECT":
		return "", fmt.Errorf("request is for a tunnel")
	case strings.HasPrefix(target, "/"), target == "*":
		return name, nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || Name(u.Hostname()) != name {
		return "", fmt.Errorf("target of the request is for another host")
	}
	return name, nil
}

// bodyLength returns how many bytes follow a head (RFC 9112, section 6).
func bodyLength(lengths, encodings []string) (int64, error) {
	switch {
	case len(lengths)+len(encodings) == 0:
		return 0, nil
	case len(lengths)+len(encodings) > 1:
		return 0, fmt.Errorf("request has several lengths")
	case len(encodings) == 1:
		if !strings.EqualFold(encodings[0], "chunked") {
			return 0, fmt.Errorf("request body is encoded in another way than in chunks")
		}
		return -1, nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 62)
	if err != nil || strings.HasPrefix(lengths[0], "+") {
		return 0, fmt.Errorf("length of the request is no number")
	}
	return int64(n), nil
}

// maxChunkLine bounds the line before a chunk. Extensions are not taken.
const maxChunkLine = 18

// ChunkHead reads the line before a chunk: how many bytes the line has, and
// how many follow. The last chunk has none, and after it come an empty line
// and no trailers.
func ChunkHead(b []byte) (size int, follow int64, err error) {
	end := bytes.Index(b[:min(len(b), maxChunkLine)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxChunkLine {
			return 0, 0, fmt.Errorf("a chunk's line has another form")
		}
		return 0, 0, ErrMore
	}
	n, err := strconv.ParseUint(string(b[:end]), 16, 62)
	if err != nil || strings.ContainsAny(string(b[:end]), "+_") {
		return 0, 0, fmt.Errorf("a chunk's line has another form")
	}
	return end + 2, int64(n), nil
}

// EndsLine reports whether a whole first line is there, or one that is too
// long to be one.
func EndsLine(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 || len(b) >= MaxHead }

// namesHTTP is wider than any server reads a request line.
var namesHTTP = regexp.MustCompile(`(?i)[\x00-\x20]http/`)

// NamesHTTP reports whether the first line names HTTP as its protocol, however
// wrong the rest is.
func NamesHTTP(b []byte) bool {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return namesHTTP.Match(line)
}
