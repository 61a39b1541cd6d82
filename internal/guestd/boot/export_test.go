package boot

// Parts of a boot that do no harm to a host, for tests.
var (
	LayAgent    = layAgent
	LoadModules = loadModules
)

// MountBare mounts what an image without an init lacks.
func MountBare() error { return mountAll(bare()) }
