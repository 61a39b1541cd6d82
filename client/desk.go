package client

import "time"

// Folder is what is in a folder of a sandbox. Names are the guest's choice.
type Folder struct {
	Path    string      `json:"path"`
	Entries []FileEntry `json:"entries"`
	// More says that there are more than are listed.
	More bool `json:"more,omitempty"`
}

// FileEntry is a file of a sandbox, as its guest says.
type FileEntry struct {
	Name string `json:"name"`
	// Type is "file", "folder" or "other"; that of a link is what it leads to.
	Type string `json:"type"`
	// Link is where a symbolic link leads; "" for none.
	Link        string    `json:"link,omitempty"`
	Size        int64     `json:"size"`
	Permissions string    `json:"permissions"`
	Owner       string    `json:"owner"`
	Modified    time.Time `json:"modified"`
}

// FileMove renames a file of a sandbox.
type FileMove struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Programs is what runs in a sandbox and where it listens, as its guest says.
type Programs struct {
	Processes []Process `json:"processes"`
	Ports     []Port    `json:"ports"`
}

// Process is one process of a guest. The kernel's own are left out.
type Process struct {
	PID    int `json:"pid"`
	Parent int `json:"ppid"`
	// Command is its command line, or its name if it has none.
	Command string `json:"command"`
	// State is one letter, as in proc_pid_stat(5).
	State       string  `json:"state"`
	CPUSeconds  float64 `json:"cpuSeconds"`
	MemoryBytes int64   `json:"memoryBytes"`
	// AgeSeconds is how long ago it was started, by the guest's clock.
	AgeSeconds float64 `json:"ageSeconds"`
	// Started is when, in ticks of the guest's kernel since it booted. With the
	// number it says which process is meant, after the number was given anew, too.
	Started int64 `json:"started"`
}

// ProcessSignal ends a process.
type ProcessSignal struct {
	// Started is that of the process that is meant.
	Started int64 `json:"started"`
	// Kill ends it whether it agrees or not; false asks it to end.
	Kill bool `json:"kill,omitempty"`
}

// Port is a TCP port on which something listens in a guest.
type Port struct {
	Port int `json:"port"`
	// Loopback says that only programs in the guest reach it, and the host.
	Loopback bool `json:"loopback"`
}
