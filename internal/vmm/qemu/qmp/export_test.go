package qmp

import "bufio"

// ReadLine reads one message as the connection does.
func ReadLine(r *bufio.Reader) error {
	_, err := readMessage(r)
	return err
}

const MaxLine = maxLine
