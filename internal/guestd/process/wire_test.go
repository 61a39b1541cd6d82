package process_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// frame is one message of a Connect stream as it is on the wire.
type frame struct {
	flags byte
	data  string
}

type answer struct {
	status int
	ctype  string
	frames []frame
}

// raw calls a streaming method the way SDKs without a Connect library do: one
// JSON frame there, JSON frames back.
func raw(t *testing.T, url, method, body string, header ...string) answer {
	t.Helper()
	head := make([]byte, 5)
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	req, err := http.NewRequestWithContext(soon(t), http.MethodPost, url+"/process.Process/"+method, strings.NewReader(string(head)+body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, ctype: res.Header.Get("Content-Type")}
	for {
		if _, err := io.ReadFull(res.Body, head); err != nil {
			return a
		}
		data := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(res.Body, data); err != nil {
			t.Fatal(err)
		}
		a.frames = append(a.frames, frame{head[0], string(data)})
	}
}

// pid returns the pid that the first frame tells.
func (a answer) pid(t *testing.T) uint32 {
	t.Helper()
	var first struct {
		Event struct {
			Start struct {
				PID uint32 `json:"pid"`
			} `json:"start"`
		} `json:"event"`
	}
	if err := json.Unmarshal([]byte(a.frames[0].data), &first); err != nil {
		t.Fatalf("first frame %q: %v", a.frames[0].data, err)
	}
	return first.Event.Start.PID
}

func TestWireFormat(t *testing.T) {
	r := newRig(t, nil)
	// An unknown field must not break clients that are newer than the agent.
	res := raw(t, r.url, "Start", `{"process":{"cmd":"echo","args":["hi"],"envs":{}},"stdin":false,"news":1}`)
	if got, want := res.ctype, "application/connect+json"; got != want || res.status != 200 {
		t.Errorf("answer is %d %q, want 200 %q", res.status, got, want)
	}
	if got, want := len(res.frames), 4; got != want {
		t.Fatalf("got %d frames, want %d: %q", got, want, res.frames)
	}
	squeeze := strings.NewReplacer(" ", "")
	for i, want := range []frame{
		{0, `{"event":{"start":{"pid":`},
		{0, `{"event":{"data":{"stdout":"aGkK"}}}`},
		{0, `{"event":{"end":{"exited":true,"status":"exitstatus0"}}}`},
		{2, `{}`},
	} {
		if got := res.frames[i]; got.flags != want.flags || !strings.HasPrefix(squeeze.Replace(got.data), want.data) {
			t.Errorf("frame %d is %d %s, want %d %s", i, got.flags, got.data, want.flags, want.data)
		}
	}
}
