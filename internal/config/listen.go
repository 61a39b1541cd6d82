package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// domainForm is a DNS name in small letters, of at least one label.
var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// maxDomain leaves room for the longest label before it within the 253
// characters of a name (RFC 1035).
const maxDomain = 253 - 64

// setListen takes loopback addresses alone: by any other, keys would travel in
// the clear.
func setListen(c *Config, value string) error {
	addr, err := netip.ParseAddrPort(strings.Replace(value, "localhost:", "127.0.0.1:", 1))
	if err != nil {
		return fmt.Errorf("%q is not an address and port like 127.0.0.1:3000", value)
	}
	if !addr.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address, and keys would travel in the clear: use listen_tls", addr)
	}
	c.Listen = addr.String()
	return nil
}

func setListenTLS(c *Config, value string) error {
	addr, err := netip.ParseAddrPort(value)
	if err != nil {
		return fmt.Errorf("%q is not an address and port like 0.0.0.0:443", value)
	}
	c.ListenTLS = addr.String()
	return nil
}

func setSSH(c *Config, value string) error {
	addr, err := netip.ParseAddrPort(strings.Replace(value, "localhost:", "127.0.0.1:", 1))
	if err != nil {
		return fmt.Errorf("%q is not an address and port like 127.0.0.1:2222", value)
	}
	c.SSH = addr.String()
	return nil
}

func setDomain(c *Config, value string) error {
	if !domainForm.MatchString(value) || len(value) > maxDomain {
		return fmt.Errorf("%q is not a domain name in small letters", value)
	}
	if _, err := netip.ParseAddr(value); err == nil {
		return fmt.Errorf("%q is an address, not a name", value)
	}
	c.Domain = value
	return nil
}

func setOrigins(c *Config, value string) error {
	c.Origins = nil
	for _, o := range strings.Split(value, ",") {
		o = strings.TrimSpace(o)
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || o != u.Scheme+"://"+u.Host {
			return fmt.Errorf("%q is not an origin like https://console.example.com", o)
		}
		c.Origins = append(c.Origins, o)
	}
	return nil
}

// registryForm is a host as references to images have it, maybe with a port.
var registryForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?$`)

func setRegistries(c *Config, value string) error {
	c.Registries = nil
	for _, r := range strings.Split(value, ",") {
		r = strings.TrimSpace(r)
		if host := strings.TrimPrefix(r, "http://"); !registryForm.MatchString(host) || len(host) > maxDomain {
			return fmt.Errorf("%q is not public, nor a registry like ghcr.io, registry.example.com:5000 or http://10.1.2.3:5000", r)
		}
		c.Registries = append(c.Registries, r)
	}
	return nil
}
