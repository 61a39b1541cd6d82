package link

// Frames are encoded with Consistent Overhead Byte Stuffing (Cheshire and
// Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on
// Networking 7(2), 1999): 0x00 does not occur in an encoded frame, at a cost
// of one byte in 254. So 0x00 always ends a frame, and a reader that is lost
// finds its way at the next one.

// appendFrame appends the encoding of a frame and its delimiter to dst.
func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	code := len(dst) // where the length of the current run goes
	dst = append(dst, 0)
	run := byte(1)
	put := func(b byte) {
		if b != 0 {
			dst = append(dst, b)
			run++
		}
		if b == 0 || run == 0xff {
			dst[code] = run
			code, run = len(dst), 1
			dst = append(dst, 0)
		}
	}
	put(kind)
	for _, b := range payload {
		put(b)
	}
	dst[code] = run
	return append(dst, 0)
}

// decodeFrame decodes an encoded frame without its delimiter in place. It
// reports false for what no encoder makes.
func decodeFrame(enc []byte) (kind byte, payload []byte, ok bool) {
	n := 0
	for i := 0; i < len(enc); {
		run := int(enc[i])
		if run == 0 || i+run > len(enc) {
			return 0, nil, false
		}
		copy(enc[n:], enc[i+1:i+run])
		n += run - 1
		i += run
		if run < 0xff && i < len(enc) {
			enc[n] = 0
			n++
		}
	}
	if n == 0 {
		return 0, nil, false
	}
	return enc[0], enc[1:n], true
}
