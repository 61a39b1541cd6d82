package overview

import (
	"time"

	"bulkhead/client"
)

// minutes is how many are kept.
const minutes = 60

// meter measures one sandbox.
type meter struct {
	before reading
	at     time.Time
	// now is the load between the last two readings, in percent of a CPU.
	now float64
	// load is that of each minute since 1970, by its number modulo minutes;
	// minute is the latest.
	load   [minutes]client.Load
	minute int64
}

// reading is what a VMM has had; the zero one is that of none.
type reading struct {
	pid    int
	cpu    time.Duration
	memory int
}

// read takes a reading.
func (m *meter) read(now time.Time, r reading) {
	m.turn(now)
	passed := now.Sub(m.at)
	switch {
	case r.pid == 0 || r.pid != m.before.pid:
		m.now = 0
	case passed > 0:
		m.now = float64(r.cpu-m.before.cpu) / float64(passed) * 100
	}
	m.before, m.at = r, now
	l := &m.load[m.minute%minutes]
	l.CPUPercent = max(l.CPUPercent, m.now)
	l.MemoryMB = max(l.MemoryMB, r.memory)
}

// turn empties the minutes that have begun since the last call.
func (m *meter) turn(now time.Time) {
	minute := now.Unix() / 60
	for i := max(m.minute, minute-minutes) + 1; i <= minute; i++ {
		m.load[i%minutes] = client.Load{}
	}
	m.minute = max(m.minute, minute)
}

// hour returns the load of the last minutes, the latest last.
func (m *meter) hour(now time.Time) []client.Load {
	m.turn(now)
	all := make([]client.Load, minutes)
	for i := range all {
		all[i] = m.load[(m.minute+1+int64(i))%minutes]
	}
	return all
}
