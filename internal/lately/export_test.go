package lately

// Len is how many keys are known.
func (c *Cache[K, V]) Len() int { return len(c.known) }
