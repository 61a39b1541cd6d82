package audit

// Decode reads one line, for the fuzz test.
func Decode(line []byte) (Event, error) {
	e, _, _, err := decode(line)
	return e, err
}
