package works

import "context"

// ReasonOf is reasonOf for tests.
var ReasonOf = reasonOf

// At is at for tests.
var At = at

// Told makes an error that is the client's to read.
func Told(err error) error { return told{err} }

// Turns is turns for tests.
type Turns = turns

// NewTurns is newTurns for tests.
var NewTurns = newTurns

// Wait is take for tests.
func (t *turns) Wait(ctx context.Context, team string, waits func()) error {
	return t.take(ctx, team, waits)
}

// Take is try for tests.
func (t *turns) Take(team string) bool {
	_, ok := t.try(team)
	return ok
}

// GiveBack is giveBack for tests.
func (t *turns) GiveBack(team string) { t.giveBack(team) }

// The scripts that prepare a machine.
const (
	Unpack     = unpack
	MakeFolder = makeFolder
)
