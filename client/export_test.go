package client

// Lost is for tests: not every way to lose a daemon can be had as root.
var Lost = (*Client).lost
