//! The words of each step.
use super::step::Step;
/// One line of the plan.
pub(crate) fn step(step: &Step) -> String { format!("{step:?}") }
