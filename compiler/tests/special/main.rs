//! Every operator in native code at the values at which arithmetic changes its ways, on every level of this machine.
//!
//! In: operators over NaN, infinities, zeros of both signs, subnormal and largest numbers, ties and integers to 2^63 ([`values`]), over
//! extents that are all the same, with one user and several. Out: that run time, constant folding and the evaluator agree within what is
//! stated of each function, whichever operands are known beforehand ([`agree`]); a case is an operator with its operands. Of functions of
//! one and two elements alone there are more than 100 000; each test says how many it has seen.
//! Every operator is in a table ([`coverage`]).

mod agree;
#[path = "../../ir/tests/support/compare.rs"]
#[expect(dead_code, reason = "what rewritten graphs are compared by")]
mod compare;
mod coverage;
mod elements;
mod gradients;
mod graphs;
mod maps;
#[path = "../../ir/tests/support/random.rs"]
mod random;
#[path = "../../ir/tests/support/rebuild.rs"]
mod rebuild;
mod rows;
mod values;
#[path = "../../ir/tests/support/vary.rs"]
mod vary;
