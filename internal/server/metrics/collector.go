package metrics

import "github.com/prometheus/client_golang/prometheus"

// collector asks for what there is.
type collector struct {
	host   Host
	states []string
}

func sandboxesDesc() *prometheus.Desc {
	return prometheus.NewDesc("bulkhead_sandboxes", "Sandboxes, by state.", []string{"state"}, nil)
}

func residentDesc() *prometheus.Desc {
	return prometheus.NewDesc("bulkhead_vmm_resident_bytes", "Memory of the VMM of each sandbox that runs.", []string{"sandbox"}, nil)
}

func poolDesc() *prometheus.Desc {
	return prometheus.NewDesc("bulkhead_pool_bytes", "The pool: its total size, what is free, and what of that is kept for machines.", []string{"kind"}, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sandboxesDesc(), residentDesc(), poolDesc()} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), label)
	}
	in := map[string]int64{}
	for _, s := range c.states {
		in[s] = 0
	}
	for _, m := range c.host.Machines() {
		in[m.State]++
		if m.Resident > 0 {
			gauge(residentDesc(), m.Resident, m.ID)
		}
	}
	for state, n := range in {
		gauge(sandboxesDesc(), n, state)
	}
	p, err := c.host.Pool()
	if err != nil {
		out <- prometheus.NewInvalidMetric(poolDesc(), err)
		return
	}
	gauge(poolDesc(), p.Total, "total")
	gauge(poolDesc(), p.Free, "free")
	gauge(poolDesc(), p.Reserved, "reserved")
}
