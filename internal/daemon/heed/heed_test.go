package heed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"testing"

	"bulkhead/internal/daemon/heed"
	"bulkhead/proto/process"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func enveloped(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

type passed func(*http.Request) (*http.Response, error)

func (p passed) RoundTrip(r *http.Request) (*http.Response, error) { return p(r) }

// A command is judged however it is written, and passed on as it came.
func TestCaution(t *testing.T) {
	req := &process.StartRequest{Process: &process.ProcessConfig{Cmd: "rm", Args: []string{"-rf", "/srv"}}}
	binaryForm, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"rm", "-rf", "/srv"}
	for name, tt := range map[string]struct {
		path, form string
		body       []byte
		want       []string
	}{
		"proto":              {"/process.Process/Start", "application/connect+proto", enveloped(0, binaryForm), command},
		"json":               {"/process.Process/Start", "application/connect+json", enveloped(0, text), command},
		"gRPC":               {"/process.Process/Start", "application/grpc", enveloped(0, binaryForm), command},
		"compressed":         {"/process.Process/Start", "application/connect+json", enveloped(1, gzipped(text)), command},
		"another call":       {"/process.Process/List", "application/connect+proto", enveloped(0, binaryForm), nil},
		"nothing":            {"/process.Process/Start", "application/connect+proto", nil, nil},
		"no message":         {"/process.Process/Start", "application/connect+proto", []byte("nonsense that is long"), nil},
		"falsely compressed": {"/process.Process/Start", "application/connect+proto", enveloped(1, binaryForm), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var judged []string
			var came []byte
			c := heed.Transport{
				passed(func(r *http.Request) (_ *http.Response, err error) {
					came, err = io.ReadAll(r.Body)
					return &http.Response{}, err
				}),
				func(_ context.Context, command []string) { judged = command },
			}
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://guest"+tt.path, bytes.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", tt.form)
			if _, err := c.RoundTrip(r); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(judged, tt.want) || !bytes.Equal(came, tt.body) {
				t.Errorf("judged is %q, passed on %d bytes of %d", judged, len(came), len(tt.body))
			}
		})
	}
}
