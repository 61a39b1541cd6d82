package server

// ParseRef is for the fuzz tests.
var ParseRef = parseRef
