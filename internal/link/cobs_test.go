package link_test

import (
	"bytes"
	"testing"

	"bulkhead/internal/link"
)

func TestFramesComeBack(t *testing.T) {
	for _, n := range []int{0, 1, 252, 253, 254, 255, 256, 507, 508, 509, link.MaxData} {
		for _, fill := range []byte{0, 1, 0xff} {
			payload := bytes.Repeat([]byte{fill}, n)
			enc := link.AppendFrame(nil, 'D', payload)
			if i := bytes.IndexByte(enc, 0); i != len(enc)-1 {
				t.Fatalf("%d times %#x: delimiter at %d of %d", n, fill, i, len(enc))
			}
			if len(enc) > link.MaxEncoded {
				t.Fatalf("%d bytes take %d, more than a reader keeps", n, len(enc))
			}
			kind, got, ok := link.DecodeFrame(enc[:len(enc)-1])
			if !ok || kind != 'D' || !bytes.Equal(got, payload) {
				t.Fatalf("%d times %#x: came back as %c, %d bytes, %v", n, fill, kind, len(got), ok)
			}
		}
	}
}

// Garbage between frames, and frames that are too long, cost nothing but
// themselves.
func TestReaderFindsItsWay(t *testing.T) {
	var in []byte
	in = append(in, 9, 9, 0)
	in = link.AppendFrame(in, 'D', []byte("one"))
	in = append(in, bytes.Repeat([]byte{1}, 5*link.MaxEncoded)...)
	in = append(in, 0, 0, 0)
	in = link.AppendFrame(in, 'D', []byte("two"))
	kinds, got := link.ReadFrames(bytes.NewReader(in))
	if string(kinds) != "DD" || string(got[0]) != "one" || string(got[1]) != "two" {
		t.Errorf("read %q %q", kinds, got)
	}
}

// Whatever decodes is what its own encoding decodes to, and nothing else is
// taken for a frame.
func FuzzDecodeFrame(f *testing.F) {
	f.Add(link.AppendFrame(nil, 'D', []byte("hello\x00world")))
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Add([]byte{1})
	f.Add(bytes.Repeat([]byte{0xff}, 600))
	f.Fuzz(func(t *testing.T, enc []byte) {
		kind, payload, ok := link.DecodeFrame(bytes.Clone(enc))
		if !ok {
			return
		}
		again := link.AppendFrame(nil, kind, payload)
		k, p, ok := link.DecodeFrame(again[:len(again)-1])
		if !ok || k != kind || !bytes.Equal(p, payload) {
			t.Errorf("%x decodes to %c %x, which encodes to %x", enc, kind, payload, again)
		}
	})
}

func FuzzReadFrames(f *testing.F) {
	f.Add(append([]byte{1, 0}, reset(link.Version, nonce)...))
	f.Add(bytes.Repeat([]byte{3, 'D', 1, 0}, 10))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, payloads := link.ReadFrames(bytes.NewReader(in))
		for _, p := range payloads {
			if len(p) > link.MaxEncoded {
				t.Errorf("payload of %d bytes", len(p))
			}
		}
	})
}
