// Package house holds the rules of this tree, as tests: who may import whom,
// how long things may be, what every package says of itself, and what the
// documents must not claim.
//
// Each rule is a pure function from a parsed tree to what breaks it. It is run
// over the real tree, and over a small one beside it that breaks it on
// purpose, so that no rule passes only because it sees nothing. What may stay
// as it is stands in the list of exceptions with its reason; an exception
// that nothing needs any more is itself a breach.
//
// house reads sources. It must not import anything of the product.
package house
