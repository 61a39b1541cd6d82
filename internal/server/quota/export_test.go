package quota

// Len is how many are remembered.
func (q *Quota) Len() int { return len(q.buckets) }
