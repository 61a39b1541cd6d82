package ingress

// IsHostOnly is for the fuzz test.
var IsHostOnly = isHostOnly
