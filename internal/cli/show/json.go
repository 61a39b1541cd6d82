package show

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
)

// JSON writes v on one line or indented. What is no visible text comes escaped,
// so that it does nothing to a terminal: package json leaves C1 controls and
// marks of the direction of writing as they are.
func JSON(w io.Writer, v any, indented bool) error {
	encoded, err := json.Marshal(v)
	if indented {
		encoded, err = json.MarshalIndent(v, "", "  ")
	}
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	safe := make([]byte, 0, len(encoded)+1)
	for _, r := range string(encoded) { // below 0x20 there is nothing but line breaks
		if r < 0x7f || unicode.IsGraphic(r) {
			safe = append(safe, string(r)...)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			safe = fmt.Appendf(safe, `\u%04x`, unit)
		}
	}
	_, err = w.Write(append(safe, '\n'))
	return err
}
