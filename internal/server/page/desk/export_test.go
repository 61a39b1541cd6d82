package desk

// Parse is for tests.
var Parse = parse
