package certs

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

// Forge certifies a name by an authority, as a thief of its key could.
func Forge(t *testing.T, ca tls.Certificate, name string) *x509.Certificate {
	t.Helper()
	key := ca.PrivateKey.(*ecdsa.PrivateKey)
	der, err := sign(&x509.Certificate{
		NotBefore: time.Now().Add(-skew), NotAfter: time.Now().Add(leafLife), DNSNames: []string{name},
	}, ca.Leaf, key, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
