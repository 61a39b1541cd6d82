package config

import (
	"fmt"
	"strings"
	"time"
)

// Hours are a part of each day, in the host's local time. The zero value is none
// of it.
type Hours struct {
	// From and Until are since midnight, in minutes; Until comes before From if
	// midnight is within.
	From, Until int
}

// Contain reports whether a moment is within.
func (h Hours) Contain(t time.Time) bool {
	t = t.Local()
	now := 60*t.Hour() + t.Minute()
	if h.From > h.Until {
		return now >= h.From || now < h.Until
	}
	return now >= h.From && now < h.Until
}

func setReclaimHours(c *Config, value string) error {
	from, until, ok := strings.Cut(value, "-")
	var h Hours
	for _, one := range []struct {
		text string
		to   *int
	}{{from, &h.From}, {until, &h.Until}} {
		t, err := time.Parse("15:04", strings.TrimSpace(one.text))
		ok = ok && err == nil
		*one.to = 60*t.Hour() + t.Minute()
	}
	if !ok || h.From == h.Until {
		return fmt.Errorf("%q are no hours like 23:00-06:00", value)
	}
	c.ReclaimHours = h
	return nil
}
