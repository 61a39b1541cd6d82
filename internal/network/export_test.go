package network

// OpenTap makes a tap in the namespace of the caller's thread, for a guest.
var OpenTap = openTap
