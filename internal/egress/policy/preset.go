package policy

import (
	"embed"
	"fmt"
	"slices"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets returns the names of the presets, the narrowest first.
func Presets() []string { return []string{"none", "packages", "public"} }

// Preset returns a preset with its rules as its own. To use one that may grow
// with the product, parse a document: "use: [packages]".
func Preset(name string) (*Policy, bool) {
	if !slices.Contains(Presets(), name) {
		return nil, false
	}
	doc, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		panic(fmt.Sprintf("policy: read preset %s: %v", name, err)) // built in
	}
	p, err := Parse(doc)
	if err != nil {
		panic(fmt.Sprintf("policy: parse preset %s: %v", name, err)) // built in, and tested
	}
	return p, true
}
