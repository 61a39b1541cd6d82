package signed_test

import (
	"bytes"
	"slices"
	"testing"

	"bulkhead/internal/pool/signed"
)

func TestRead(t *testing.T) {
	key, other := []byte("key"), []byte("other")
	body := []byte("first\nsecond")
	file := signed.Seal(body, key)
	changed := slices.Clone(file)
	changed[len(changed)-1]++
	for _, tc := range []struct {
		name string
		file []byte
		key  []byte
		want string // an error; "" for the body
	}{
		{"as it was written", file, key, ""},
		{"by another host", file, other, "signature differs"},
		{"by whoever", file, nil, ""},
		{"changed", changed, key, "signature differs"},
		{"cut off", file[:40], key, "not complete"},
		{"empty", nil, key, "not complete"},
		{"of the most bytes", signed.Seal(make([]byte, signed.Max-len(signed.Seal(nil, key))), key), key, ""},
		{"of more", signed.Seal(make([]byte, signed.Max), key), key, "too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := signed.Read(bytes.NewReader(tc.file), tc.key)
			switch {
			case tc.want != "":
				if err == nil || err.Error() != tc.want {
					t.Errorf("got %q, %v, want %q", got, err, tc.want)
				}
			case err != nil:
				t.Error(err)
			case !bytes.HasSuffix(tc.file, got) || len(tc.file)-len(got) != len(signed.Seal(nil, key)):
				t.Errorf("got %d bytes of %d", len(got), len(tc.file))
			}
		})
	}
}
