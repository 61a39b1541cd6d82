package terminal

// kept is how much of its output a shell keeps: some 3,000 lines.
const kept = 256 << 10

// tail is the end of a stream. Places in it are counted from the stream's
// beginning.
type tail struct {
	bytes []byte
	end   int64
}

func (t *tail) add(b []byte) {
	t.end += int64(len(b))
	t.bytes = append(t.bytes, b...)
	if len(t.bytes) > 2*kept { // so that bytes are moved seldom
		t.bytes = append([]byte(nil), t.bytes[len(t.bytes)-kept:]...)
	}
}

// since returns what came after a place, as far as it is kept, and where it
// ends. A place that is none, as one of another stream, is the beginning.
func (t *tail) since(after int64) ([]byte, int64) {
	begin := t.end - int64(min(len(t.bytes), kept))
	if after < begin || after > t.end {
		after = begin
	}
	return append([]byte(nil), t.bytes[len(t.bytes)-int(t.end-after):]...), t.end
}
