package keyring

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"

	"golang.org/x/crypto/ssh"
)

// kinds are the keys that are good enough. Certificates are not, which
// would let somebody else decide who comes in.
func kinds() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoRSA,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	}
}

// read reads a line of a .pub file.
func read(line string) (pub ssh.PublicKey, comment string, err error) {
	line = strings.TrimSpace(line)
	hint := "give the content of a file like ~/.ssh/id_ed25519.pub"
	if strings.HasPrefix(line, "-----BEGIN") && strings.Contains(line, "PRIVATE KEY") {
		return nil, "", fault.New(fault.Invalid, "that is a private key: nobody but you should have it").Hint("%s", hint)
	}
	if len(line) > maxLine || strings.ContainsAny(line, "\r\n") {
		return nil, "", fault.New(fault.Invalid, "that is not one public key").Hint("%s", hint)
	}
	pub, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "that is no public key of SSH").Hint("%s", hint)
	}
	if len(options) > 0 {
		return nil, "", fault.New(fault.Invalid, "options of a key mean nothing here: %.80q", options[0]).Hint("%s", hint)
	}
	return pub, comment, check(pub)
}

// parse reads a key as it is kept.
func parse(line string) (ssh.PublicKey, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	return pub, err
}

func check(pub ssh.PublicKey) error {
	if !slices.Contains(kinds(), pub.Type()) {
		return fault.New(fault.Invalid, "keys of the kind %.40q are not accepted", pub.Type()).Hint("ssh-keygen -t ed25519")
	}
	if c, ok := pub.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
			return fault.New(fault.Invalid, "an RSA key of %d bits is too short, want %d", k.N.BitLen(), minRSA).Hint("ssh-keygen -t ed25519")
		}
	}
	return nil
}

// HostKey reads the host's key at path, and makes it the first time. Whoever has
// the file can pretend to be this host.
func HostKey(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = newHostKey(); err == nil {
			err = durable.WriteFile(path, b, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the host's SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "the host's SSH key %s does not parse: %w", path, err).
			Hint("restore it, or remove it: a new one is made, and clients are warned")
	}
	return signer, nil
}

func newHostKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "bulkhead")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// Describe returns a public key as a line of authorized_keys has it, and its
// fingerprint.
func Describe(pub ssh.PublicKey) (line, fingerprint string) {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), ssh.FingerprintSHA256(pub)
}

// Fingerprint returns that of the host's key at path; fs.ErrNotExist if it was
// not made yet.
func Fingerprint(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return "", err
	}
	return ssh.FingerprintSHA256(signer.PublicKey()), nil
}
