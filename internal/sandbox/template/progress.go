package template

import "time"

// Progress is told how a build goes on. Calls do not overlap.
type Progress func(Step)

// Step is a step of a build that begins or ends, or a line that it printed.
type Step struct {
	Name string
	// Number counts from 1; Of is how many steps there are in all.
	Number, Of int
	Done       bool
	Elapsed    time.Duration
	// Log is one line of output; with it, nothing begins or ends.
	Log string
}

// ownSteps is how many steps a build has after the image: boot, wait,
// snapshot.
const ownSteps = 3

// stepper numbers the steps of a build and times them.
type stepper struct {
	tell       Progress
	clock      func() time.Time
	number, of int
}

// relay passes on the steps of the image and adds ours to their number.
func (s *stepper) relay(step Step) {
	if step.Number > 0 {
		step.Of += ownSteps
		s.number, s.of = step.Number, step.Of
	}
	s.tell(step)
}

// begin starts a step that stands for count of our own, and returns what ends
// it.
func (s *stepper) begin(name string, count int) (end func()) {
	s.number += count
	s.of = max(s.of, s.number)
	step := Step{Name: name, Number: s.number, Of: s.of}
	began := s.clock()
	s.tell(step)
	return func() {
		step.Done, step.Elapsed = true, s.clock().Sub(began)
		s.tell(step)
	}
}
