package egress

// Counts returns how many connections of a sandbox were opened, and how often
// something was refused, since the daemon was started. Of refusals, those of
// the kinds that are remembered count.
func (p *Perimeter) Counts(id string) (opened, refused int, err error) {
	g, err := p.gate(id)
	if err != nil {
		return 0, 0, err
	}
	uses, denials := g.ledger.Read()
	for _, u := range uses {
		opened += u.Connections
	}
	for _, d := range denials {
		refused += d.Count
	}
	return opened, refused, nil
}
