package server

// ParseRef and IsHostOnly are for the fuzz tests.
var (
	ParseRef   = parseRef
	IsHostOnly = isHostOnly
)
