// Package heed shows what is started in a sandbox to who judges it: it reads the
// commands in requests to the agent.
//
// heed must not know what is risky. A Transport is safe for concurrent use if its
// parts are.
package heed

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"

	"bulkhead/proto/process"
	"bulkhead/proto/process/processconnect"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxStart bounds a request that starts a program, in bytes; a command line has
// 2 MiB at most (execve(2)).
const maxStart = 4 << 20

// Transport shows a sandbox's commands to who judges them, before they are passed
// on.
type Transport struct {
	http.RoundTripper
	// Judge is told the program and its arguments.
	Judge func(ctx context.Context, command []string)
}

// RoundTrip implements http.RoundTripper.
func (c Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != processconnect.ProcessStartProcedure || r.Body == nil {
		return c.RoundTripper.RoundTrip(r)
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxStart))
	if err != nil {
		return nil, err
	}
	if command := commandOf(head, r.Header.Get("Content-Type")); command != nil {
		c.Judge(r.Context(), command)
	}
	body := r.Body
	r = r.Clone(r.Context())
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
	return c.RoundTripper.RoundTrip(r)
}

// commandOf reads what a request starts: one message in an envelope of five
// bytes (Connect protocol, "Streaming RPCs"). It is nil for what the agent would
// not understand either.
func commandOf(body []byte, contentType string) []string {
	const envelope, compressed = 5, 1
	if len(body) < envelope {
		return nil
	}
	flags, size := body[0], binary.BigEndian.Uint32(body[1:envelope])
	message := body[envelope:]
	if uint64(size) > uint64(len(message)) {
		return nil
	}
	message = message[:size]
	if flags&compressed != 0 {
		z, err := gzip.NewReader(bytes.NewReader(message))
		if err != nil {
			return nil
		}
		if message, err = io.ReadAll(io.LimitReader(z, maxStart)); err != nil {
			return nil
		}
	}
	var req process.StartRequest
	var err error
	if strings.Contains(contentType, "json") {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(message, &req)
	} else {
		err = proto.Unmarshal(message, &req)
	}
	if err != nil {
		return nil
	}
	return append([]string{req.GetProcess().GetCmd()}, req.GetProcess().GetArgs()...)
}
