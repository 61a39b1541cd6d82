// Package certs is what the host shows to those who come by TLS: a certificate
// that the operator has, or one of the host's own authority.
//
// The authority is made once and kept in the state directory. Clients are told to
// trust it (ca.pem); so that this is no risk to them, it can certify the host's
// own names and loopback, and nothing else. What it certifies is never written
// to disk, lasts for three months and is made anew in time.
//
// certs must not know what is served. Its getters are safe for concurrent use.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bulkhead/internal/durable"
	"bulkhead/internal/fault"
)

// Getter returns a certificate, as tls.Config wants one.
type Getter func(*tls.ClientHelloInfo) (*tls.Certificate, error)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife stays below the 398 days beyond which some clients refuse.
	leafLife = 90 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is made anew.
	renewBefore = 30 * 24 * time.Hour
	// skew is how far the clock of a client may be behind.
	skew = time.Hour
)

// CAFile is the name of the file with the authority's certificate.
const CAFile = "ca.pem"

// Files returns the certificate in two PEM files, read again when either has
// changed.
func Files(cert, key string) (Getter, error) {
	f := &files{cert: cert, key: key}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	return f.get, nil
}

type files struct {
	cert, key string

	mu     sync.Mutex
	read   [2]time.Time     // when the files were last changed; guarded by mu
	loaded *tls.Certificate // guarded by mu
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changed [2]time.Time
	for i, path := range []string{f.cert, f.key} {
		if fi, err := os.Stat(path); err == nil {
			changed[i] = fi.ModTime()
		}
	}
	if f.loaded != nil && changed == f.read {
		return f.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	switch {
	case err == nil:
		f.loaded, f.read = &pair, changed
	case f.loaded == nil:
		return nil, fault.New(fault.Invalid, "read certificate: %w", err)
	}
	return f.loaded, nil // the old one while a new one is being written
}

// Own returns certificates of the host's own authority, which is in dir and made
// if there is none. They are for localhost, loopback and, unless it is "", domain,
// each with all names right below it.
func Own(dir, domain string, clock func() time.Time) (Getter, error) {
	names := []string{"localhost"}
	if domain != "" {
		names = append(names, domain)
	}
	ca, err := load(dir, names, clock())
	if errors.Is(err, errUnfit) || errors.Is(err, fs.ErrNotExist) {
		ca, err = create(dir, names, clock())
	}
	if err != nil {
		return nil, err
	}
	i := &issuer{ca: ca, names: names, clock: clock}
	return i.get, nil
}

// authority is the host's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// errUnfit means that an authority is of no more use: the host got another name,
// or its time is over.
var errUnfit = errors.New("authority does not fit")

func load(dir string, names []string, now time.Time) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CAFile), filepath.Join(dir, "ca.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fault.New(fault.Corrupt, "read the host's authority: %w", err).Hint("move %s away to have a new one made", dir)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !slices.Equal(pair.Leaf.PermittedDNSDomains, names) || now.Add(leafLife).After(pair.Leaf.NotAfter) {
		return nil, errUnfit
	}
	return &authority{pair.Leaf, key}, nil
}

func create(dir string, names []string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	host := names[len(names)-1]
	der, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Bulkhead authority of " + host}, NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: names, PermittedIPRanges: loopback(),
	}, nil, key, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// The key first: without it a certificate is of no use.
	err = durable.WriteFile(filepath.Join(dir, "ca.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	if err == nil {
		err = durable.WriteFile(filepath.Join(dir, CAFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("make the host's authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

// sign makes a certificate for key, of parent or, if that is nil, of its own.
func sign(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	return x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
}

func loopback() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
}

// issuer certifies the host.
type issuer struct {
	ca    *authority
	names []string
	clock func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate // guarded by mu
}

func (i *issuer) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock()
	if i.leaf != nil && now.Before(i.leaf.Leaf.NotAfter.Add(-renewBefore)) {
		return i.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range i.names {
		names = append(names, n, "api."+n, "*."+n)
	}
	der, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: i.names[len(i.names)-1]}, NotBefore: now.Add(-skew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, i.ca.cert, key, i.ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	i.leaf = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return i.leaf, nil
}
