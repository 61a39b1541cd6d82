package config_test

import (
	"testing"
	"time"

	"bulkhead/internal/config"
)

func TestHours(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 7, 1, hour, minute, 59, 0, time.Local) }
	night, day := config.Hours{From: 23 * 60, Until: 6*60 + 30}, config.Hours{From: 9 * 60, Until: 17 * 60}
	for name, tt := range map[string]struct {
		hours config.Hours
		at    time.Time
		want  bool
	}{
		"before the night":     {night, at(22, 59), false},
		"as it begins":         {night, at(23, 0), true},
		"after midnight":       {night, at(0, 0), true},
		"its last minute":      {night, at(6, 29), true},
		"as it ends":           {night, at(6, 30), false},
		"by day":               {day, at(12, 0), true},
		"before the day":       {day, at(8, 59), false},
		"after the day":        {day, at(17, 0), false},
		"in another time zone": {day, at(12, 0).In(time.FixedZone("", 9*3600)), true},
		"no hours":             {config.Hours{}, at(0, 0), false},
	} {
		if got := tt.hours.Contain(tt.at); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
