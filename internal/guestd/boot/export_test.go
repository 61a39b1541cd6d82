package boot

// Parts of a boot that do no harm to a host, for tests.
var (
	LayAgent    = layAgent
	LayUnit     = layUnit
	LoadModules = loadModules
	Prepare     = prepare
	JoinNetwork = joinNetwork
)

// Init is what process 1 does once it is prepared, with agent for the agent.
func Init(agent string) {
	watchPower()
	keep("/no/such/file", agent)
}
