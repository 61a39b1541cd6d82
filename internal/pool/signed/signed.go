// Package signed has what only this host can have written: bytes behind a line
// with their signature.
//
//	hmac-sha256 <64 hexadecimal digits>
//	…
//
// signed must not know what is signed. Its functions hold nothing.
package signed

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// Max bounds a file in bytes, far above what the manifest of a snapshot with a
// few labels has (1 KiB).
const Max = 1 << 20

// Seal returns the file of body, signed with key.
func Seal(body, key []byte) []byte { return append(signature(body, key), body...) }

func signature(body, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return []byte("hmac-sha256 " + hex.EncodeToString(mac.Sum(nil)) + "\n")
}

// Open returns the body of a file. With a nil key the signature may be
// anyone's. The error says what is wrong with the file, without naming it.
func Open(file, key []byte) (body []byte, err error) {
	head, body, found := bytes.Cut(file, []byte("\n"))
	if !found {
		return nil, errors.New("not complete")
	}
	if key != nil && !hmac.Equal(append(head, '\n'), signature(body, key)) {
		return nil, errors.New("signature differs")
	}
	return body, nil
}

// Read is Open for a file that is still to be read, and refused if it has more
// than Max bytes.
func Read(f io.Reader, key []byte) (body []byte, err error) {
	file, err := io.ReadAll(io.LimitReader(f, Max+1))
	if err != nil {
		return nil, err
	}
	if len(file) > Max {
		return nil, errors.New("too large")
	}
	return Open(file, key)
}
