package machine

// Starts reports whether a process could start now.
func (f *Freezer) Starts() bool {
	if !f.starts.TryRLock() {
		return false
	}
	f.starts.RUnlock()
	return true
}
