package reclaim

import "testing"

func TestNeeds(t *testing.T) {
	for _, tt := range []struct{ size, used, want int }{
		{512, 100, 214}, {512, 0, 128}, {512, 400, 512}, {512, -5, 128}, {512, 1 << 40, 512}, {4096, 500, 1024},
	} {
		if got := Needs(tt.size, tt.used); got != tt.want {
			t.Errorf("of %d MiB with %d used it keeps %d, want %d", tt.size, tt.used, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	for text, want := range map[string]bool{
		"MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: 99 kB\n":  true,
		"MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: 100 kB\n": false,
		"": false,
	} {
		if got := short([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
