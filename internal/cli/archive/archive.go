// Package archive moves files as tar streams between here and a sandbox.
//
// What comes out of a sandbox is hostile: names may climb out of the target,
// links may point anywhere and be written through, entries may be devices or
// claim to be larger than any disk. Unpack makes nothing but files, folders
// and links, and makes them below the one name that it was told, which os.Root
// has the kernel enforce.
//
// archive knows neither sandboxes nor clients. It has no state.
package archive

// Tally says what was copied.
type Tally struct {
	// Entries counts files, folders and links.
	Entries int `json:"entries"`
	// Bytes is the sum of all files.
	Bytes int64 `json:"bytes"`
	// LeftOut counts what was not copied.
	LeftOut int `json:"leftOut"`
}
