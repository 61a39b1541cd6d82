// Package authority is the certificate authority of one sandbox, by which its
// programs accept the proxy in the place of the hosts that secrets are for.
//
// The key never leaves the host and belongs to one sandbox for as long as that
// lives, so what was trusted before a pause or a rollback is trusted after it.
// The root is constrained to the names in question (RFC 5280, 4.2.1.10): even
// who had the key could not pretend to be anybody else. When the names change,
// the root is signed anew by the same key under the same name, so programs that
// have read the older one go on with the names that it had.
//
// authority must not know policies or secrets. An Authority is safe for
// concurrent use.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// rootLife is longer than any sandbox lives.
	rootLife = 10 * 365 * 24 * time.Hour
	// leafLife is below the 398 days that clients accept.
	leafLife = 90 * 24 * time.Hour
	// early is how far a clock in the guest may be behind.
	early = time.Hour
)

// Authority signs for one sandbox.
type Authority struct {
	key   *ecdsa.PrivateKey
	clock func() time.Time

	mu    sync.Mutex
	names []string                    // guarded by mu; sorted
	root  *x509.Certificate           // guarded by mu; nil until the first names
	leafs map[string]*tls.Certificate // guarded by mu
}

// kept is an authority as it is on disk.
type kept struct {
	Key   []byte   `json:"key"` // SEC 1, DER
	Root  []byte   `json:"root,omitempty"`
	Names []string `json:"names,omitempty"`
}

// New makes an authority with a new key.
func New(clock func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return &Authority{key: key, clock: clock, leafs: map[string]*tls.Certificate{}}, nil
}

// Load reads what Marshal has written.
func Load(b []byte, clock func() time.Time) (*Authority, error) {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(k.Key)
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key, clock: clock, leafs: map[string]*tls.Certificate{}}
	if len(k.Root) > 0 {
		if a.root, err = x509.ParseCertificate(k.Root); err != nil {
			return nil, err
		}
		a.names = k.Names
	}
	return a, nil
}

// Marshal writes the authority, its key included.
func (a *Authority) Marshal() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	k := kept{Key: key, Names: a.names}
	if a.root != nil {
		k.Root = a.root.Raw
	}
	return json.Marshal(k)
}

// Cover makes the root one for exactly these names, of which there is at least
// one. It reports whether it is a new one, which is to be kept and given out.
func (a *Authority) Cover(names []string) (fresh bool, err error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root != nil && slices.Equal(names, a.names) {
		return false, nil
	}
	if len(names) == 0 {
		return false, errors.New("an authority for no names")
	}
	now := a.clock()
	everywhere := []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: a.subject(),
		NotBefore: now.Add(-early), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: names, ExcludedIPRanges: everywhere,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return false, fmt.Errorf("sign root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return false, err
	}
	a.root, a.names = root, names
	clear(a.leafs)
	return true, nil
}

// Root returns the root as PEM, nil before the first Cover.
func (a *Authority) Root() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Leaf returns a certificate of a name that the root covers, and its key.
func (a *Authority) Leaf(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.names, name) {
		return nil, fmt.Errorf("the authority is not for %s", name)
	}
	now := a.clock()
	if c := a.leafs[name]; c != nil && now.Before(c.Leaf.NotAfter.Add(-leafLife/2)) && now.After(c.Leaf.NotBefore) {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(), DNSNames: []string{name},
		NotBefore: now.Add(-early), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, a.root, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	a.leafs[name] = c
	return c, nil
}

// subject is the same whatever the names, and another for each sandbox.
func (a *Authority) subject() pkix.Name {
	public, _ := a.key.PublicKey.Bytes() // fails for points that are not on the curve
	id := sha1.Sum(public)
	return pkix.Name{CommonName: fmt.Sprintf("bulkhead sandbox %x", id[:8])}
}

// Link is the name under which OpenSSL looks for the root in a folder: four
// bytes of the digest of its subject's canonical form, lower case text in
// UTF-8 without the outermost SEQUENCE (X509_NAME_hash(3)).
func (a *Authority) Link() (string, error) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	der, err := asn1.Marshal(attribute{asn1.ObjectIdentifier{2, 5, 4, 3}, strings.ToLower(a.subject().CommonName)})
	if err != nil {
		return "", err
	}
	set, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: der})
	if err != nil {
		return "", err
	}
	digest := sha1.Sum(set)
	return fmt.Sprintf("%08x.0", binary.LittleEndian.Uint32(digest[:4])), nil
}

// serial returns 127 random bits (RFC 5280 allows 20 bytes, positive).
func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
